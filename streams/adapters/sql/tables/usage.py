"""Tables for usage: counted launches, the meter's position, notices, and events that wait to be produced."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, text

from streams.adapters.sql.tables.types import Moment, metadata

# The meter's next offset, by partition; `incarnation` names the topic, which may be deleted and made again.
usage_positions = Table(
    "usage_positions",
    metadata,
    Column("partition", Integer, primary_key=True),
    Column("incarnation", Text, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
)

# The counted launches: an event that is published again counts once. A late launch has the month of its arrival.
counted_launches = Table(
    "counted_launches",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("month", Text, nullable=False, index=True),
)

usage_months = Table(
    "usage_months",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("month", Text, primary_key=True),
    Column("launches", BigInteger, nullable=False),
    # Launches of a closed month that arrived in this month. They do not count against the plan limit.
    Column("late_launches", BigInteger, nullable=False, server_default=text("0")),
)

# The same by package and dispatch; an empty id means that the launch had none.
usage_details = Table(
    "usage_details",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("month", Text, primary_key=True),
    Column("package_id", Text, primary_key=True),
    Column("dispatch_id", Text, primary_key=True),
    Column("launches", BigInteger, nullable=False),
)

# Each threshold is reported once for each account, month and percentage.
usage_notices = Table(
    "usage_notices",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("month", Text, primary_key=True),
    Column("percent", Integer, primary_key=True),
    Column("launches", BigInteger, nullable=False),
    Column("plan_limit", BigInteger, nullable=False),
    Column("at", Moment, nullable=False),
)

# The last hundred accounts that events named but that do not exist.
unknown_accounts = Table(
    "unknown_accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("first_at", Moment, nullable=False),
    Column("last_at", Moment, nullable=False),
)

# This system's own events until the broker acknowledges them.
outgoing_events = Table(
    "outgoing_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    # The key of the event's record.
    Column("key", Text, nullable=False),
    # Events are produced in this order.
    Column("created_at", Moment, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Index(None, "created_at", "id"),
)
