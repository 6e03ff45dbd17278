"""The limit of every field that comes from outside, each with its reason.

An event or a webhook within these limits fits through every topic on its way: `tests/house/test_sizes.py` adds up the
worst case. Limits of text count characters.
"""

# -- fields of events and webhooks ---------------------------------------------------------------------------------

# An id becomes a record's key, a header's value and a part of an index.
MAX_ID_CHARACTERS = 128
# "P" and seven numbers of eight digits fit; no learner's session is longer.
MAX_DURATION_CHARACTERS = 64
# A time in `data`, with as many digits of a second as anybody writes.
MAX_TIME_CHARACTERS = 64
# A learner's id may be an e-mail address or a distinguished name; a title is shown on one line.
MAX_TEXT_CHARACTERS = 1024
# Of a session, in UTF-8: a PostgreSQL index entry has at most 2704 bytes, and contains the account's id too.
MAX_LEARNER_BYTES = 2400
# What an account adds for its own systems, such as a department and an employee number.
MAX_METADATA_PAIRS = 20
MAX_METADATA_NAME_CHARACTERS = 64
MAX_METADATA_VALUE_CHARACTERS = 500
# People search by a pair's hash: an index entry of any pair is short, and no two pairs of an account share one.
METADATA_HASH_BYTES = 16
# The largest whole number that every receiver's JSON reads exactly.
MAX_SEQUENCE = 2**53 - 1
# More than the fields above can add up to (about 60 KB), and less than every serverless platform accepts.
MAX_PAYLOAD_BYTES = 64 * 1024

# Paths of `data` that a webhook may choose: more than all fields and pairs of an event.
MAX_FIELDS_SENT = 50
MAX_FIELD_PATH_CHARACTERS = len("metadata.") + MAX_METADATA_NAME_CHARACTERS

# -- a webhook's own headers ---------------------------------------------------------------------------------------

MAX_WEBHOOK_HEADERS = 10
MAX_HEADER_NAME_CHARACTERS = 64
# Room for a bearer token; most servers refuse a request with more than 8 KiB of headers.
MAX_HEADER_VALUE_CHARACTERS = 1024

# -- an endpoint's response ----------------------------------------------------------------------------------------

# Enough to tell a person what went wrong; it is stored with each attempt.
MAX_RESPONSE_BODY_BYTES = 4096
# Names and values of all headers together, without those that do not fit. Most responses have less than 1 KiB.
MAX_RESPONSE_HEADER_BYTES = 4096

# Attempts in one response or on one page.
MAX_ATTEMPTS_SHOWN = 50
# Their stored bytes. JSON escapes a control character to 6 bytes, HTML a quote to 5: less than 800 KB of a response.
MAX_ATTEMPT_BYTES_SHOWN = 128 * 1024

# -- the retry schedule --------------------------------------------------------------------------------------------

# Each tier is a topic with as many partitions as `deliveries`.
MAX_RETRY_TIERS = 20
# A wait longer than the longest tier is several waits in it, each a record: a week with the default schedule.
MAX_WAITS_IN_TIER = 28

# -- lists ---------------------------------------------------------------------------------------------------------

# Scopes of one webhook, each at most an id long: 128 KiB of a record of `subscriptions`.
MAX_SCOPE_IDS = 1000
MAX_DESCRIPTION_CHARACTERS = 500
MAX_URL_CHARACTERS = 2048

# A webhook's filter, as JSON: ten conditions with lists of some ids.
MAX_FILTER_BYTES = 4096
# `fan-out` looks at each condition for each event.
MAX_FILTER_CONDITIONS = 10
MAX_FILTER_VALUES = 50

# -- a webhook's other settings ------------------------------------------------------------------------------------

# Requests in flight to one endpoint: as many as `deliver` has slots by default.
MAX_CONCURRENCY = 256

# Seconds of an attempt. Stages that stop wait for it, and a slot is taken for as long.
MAX_WEBHOOK_TIMEOUT_SECONDS = 30
# Days that a pull webhook's deliveries wait for a reader.
MAX_RETENTION_DAYS = 30
DEFAULT_RETENTION_DAYS = 7
# Items of one pull, and the time of a lease: a reader that needs longer takes fewer.
MAX_PULL_ITEMS = 100
DEFAULT_PULL_ITEMS = 10
MAX_LEASE_SECONDS = 12 * 60 * 60
DEFAULT_LEASE_SECONDS = 60
# Proxies end a request that is silent for 30 seconds.
MAX_PULL_WAIT_SECONDS = 25
# The bodies of one pull: a quote in a body takes two bytes of the response.
MAX_PULL_BYTES = 400_000
# Ids of one acknowledgement: those of ten pulls.
MAX_ACKNOWLEDGED_IDS = 10 * MAX_PULL_ITEMS
# The longest wait of an item that a reader gives back: as long as the longest lease.
MAX_NACK_WAIT_SECONDS = MAX_LEASE_SECONDS
# One request in ten seconds; several processes may send to the same endpoint.
MIN_RATE_PER_SECOND = 0.1
MAX_RATE_PER_SECOND = 1000
# With seven attempts in a day a dead endpoint has this many failures within two weeks.
MAX_FAILURES_TO_PAUSE = 100
# A week: longer than a weekend with a holiday.
MAX_MINUTES_TO_PAUSE = 7 * 24 * 60

# A user name, a client id, a scope or a secret.
MAX_AUTH_CHARACTERS = 1024
# Most servers refuse a request with more than 8 KiB of headers.
MAX_TOKEN_CHARACTERS = 8000
# Such a token and the other fields of its response.
MAX_TOKEN_RESPONSE_BYTES = 32 * 1024

# Every event of an account is compared with each of its webhooks.
MAX_WEBHOOKS_PER_ACCOUNT = 1000

# `fan-out`, `deliver` and `publish` keep every webhook in memory: 1.4 MB for an account at these three limits
# (docs/capacity.md). Scopes take 8 bytes an id there.
MAX_SCOPE_IDS_PER_ACCOUNT = 20_000
# URLs, encrypted headers and filters: 500 characters for each of a thousand webhooks.
MAX_WEBHOOK_CHARACTERS_PER_ACCOUNT = 500_000

# -- what an account has -------------------------------------------------------------------------------------------

# All are on one page. A customer with more people signs them in by portal links or OpenID Connect.
MAX_USERS_PER_ACCOUNT = 200
# Keys that are neither revoked nor expired.
MAX_KEYS_PER_ACCOUNT = 100
# All active keys, and the last ones that ended.
MAX_KEYS_LISTED = 2 * MAX_KEYS_PER_ACCOUNT
# Keys of terminals, which members make for themselves. Half of the keys are left for the owners.
MAX_TERMINALS_PER_PERSON = 3
MAX_TERMINALS_PER_ACCOUNT = MAX_KEYS_PER_ACCOUNT // 2
# The newest are shown. When one of them ends, an older one takes its place.
MAX_SESSIONS_LISTED = 200
# Hours that the old secret stays valid after a rotation.
MAX_OVERLAP_HOURS = 168
DEFAULT_OVERLAP_HOURS = 24
# The maximum number of generations: people and jobs make them, and each has a fresh schedule with up to 20 attempts or
# more.
MAX_RETRIES_PER_DELIVERY = 100
# Jobs take turns, and `publish` reads all of them for each turn of the account.
MAX_UNFINISHED_JOBS_PER_ACCOUNT = 20
# Test events that wait for their outcome in one process. Each holds a connection of its client for up to 25 seconds.
MAX_WAITING_TESTS_PER_WEBHOOK = 2
MAX_WAITING_TESTS_PER_ACCOUNT = 10

# -- what a course does --------------------------------------------------------------------------------------------

# Events `session.scored` of one session, at most one in five seconds. No learner reads more changes of a score.
MAX_SCORES_PER_SESSION = 200
# What a player stores of a course. SCORM allows a course 64 000 characters; a browser's beacon has no more bytes.
MAX_PLAYER_STATE_BYTES = 64 * 1024

# `deliver` keeps every erased learner in memory, 0.3 KB each.
MAX_ERASURES_PER_DAY = 10_000

# -- responses -----------------------------------------------------------------------------------------------------

# The rows of a list in JSON. 500 rows of usual length fit, and about 100 of the largest webhooks.
MAX_LIST_BYTES = 900_000

# The response of a request with an Idempotency-Key, kept for a day: 400 events with the longest ids.
MAX_STORED_RESPONSE_BYTES = 64 * 1024
# Of one account, in one process of `api`: half a million responses of usual length.
MAX_STORED_RESPONSE_BYTES_PER_DAY = 256 * 1024 * 1024

# -- requests to the API -------------------------------------------------------------------------------------------

# The longest address in SMTP (RFC 5321 §4.5.3.1.3).
MAX_EMAIL_CHARACTERS = 254
# Recipients of one account's mails; a mail server accepts at least 100 (RFC 5321 §4.5.3.1.8).
MAX_EMAILS = 20
# Names are for people and are shown on one line.
MAX_NAME_CHARACTERS = 200
# The largest integer that both databases store.
MAX_PLAN_LIMIT = 2**63 - 1
MAX_EVENT_TYPE_CHARACTERS = 64
MAX_EVENTS_PER_REQUEST = 500
# Far more types than exist: a list may repeat some.
MAX_EVENT_TYPES_LISTED = 50
# A time and an id.
MAX_CURSOR_CHARACTERS = 256
# No object of a request has this many fields; each unknown one costs an error.
MAX_REQUEST_FIELDS = 50

# -- sign-in by OpenID Connect -------------------------------------------------------------------------------------

# The longest subject that a provider may give (OpenID Connect Core 1.0 §2).
MAX_OIDC_SUBJECT_CHARACTERS = 255
# Accounts of one person. Each is read at the sign-in, and is a button on the page that asks for one.
MAX_OIDC_ACCOUNTS = 100

# Beyond it, two integers are the same double: Avro, JavaScript and JSON parsers change them.
MAX_EXACT_INTEGER = 2**53

# -- error responses -----------------------------------------------------------------------------------------------

# Twenty errors of these lengths fit into 64 KiB, in any script.
MAX_ERRORS_SHOWN = 20
MAX_ERROR_FIELD_CHARACTERS = 128
MAX_ERROR_MESSAGE_CHARACTERS = 256
MAX_ERROR_DETAIL_CHARACTERS = 1024
