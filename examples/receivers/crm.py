"""CRM: the training status of a Salesforce contact follows its learner's newest event.

Settings: WEBHOOK_SECRET, PORT, DATA_DIR; SALESFORCE_URL, such as https://acme.example.com; SALESFORCE_TOKEN, an access
token; SALESFORCE_ID_FIELD, the contact's external id field that has the learner's id.
"""

import hashlib
from datetime import UTC, datetime
from urllib.parse import quote

import httpx2
from receiver import Event, database, serve, setting

API = "/services/data/v64.0/sobjects/Contact"
# Without a sequence, of two events of one time the one whose status comes later here counts.
STATUSES = ("In progress", "Completed", "Failed", "Passed")
MAX_ID = 255
MAX_NAME = 80
TABLE = """CREATE TABLE IF NOT EXISTS newest_events
  (learner_id TEXT PRIMARY KEY, happened_at TEXT, status INTEGER, session_id TEXT, sequence INTEGER)"""
# Within a session `sequence` decides: clocks differ. Between sessions the time does.
NEWEST = """INSERT INTO newest_events AS old VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  (happened_at, status, session_id, sequence) = (new.happened_at, new.status, new.session_id, new.sequence)
  WHERE CASE WHEN new.session_id = old.session_id AND new.sequence + old.sequence IS NOT NULL
    THEN new.sequence >= old.sequence
    ELSE (new.happened_at, new.status) >= (old.happened_at, old.status) END RETURNING 1""".replace("new.", "excluded.")


class Contacts:
    """The contacts in Salesforce, and here the place of the newest event of each."""

    def __init__(self, url: str, token: str, id_field: str) -> None:
        self._http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20)
        self._id_field = id_field
        self._db = database("crm", TABLE)

    def update(self, event: Event) -> None:
        """Set the status, unless a newer event has set it."""
        data, status = event["data"], status_of(event)
        happened_at = datetime.fromisoformat(event["createdAt"]).astimezone(UTC).isoformat(timespec="microseconds")
        # Noted first: when the process dies here, this event is still to do, and is not older than itself.
        place = happened_at, STATUSES.index(status), data["sessionId"], data.get("sequence")
        if self._db.execute(NEWEST, (data["learnerId"], *place)).fetchall():
            self._upsert(
                data["learnerId"], {"Training_Status__c": status, "Training_Status_Time__c": event["createdAt"]}
            )

    def _upsert(self, learner: str, fields: dict[str, str]) -> None:
        # A dot is encoded too: clients resolve a path that ends in "..".
        path = f"{API}/{self._id_field}/{quote(external_id(learner), safe='').replace('.', '%2E')}"
        response = self._http.patch(path, json=fields)
        if response.status_code == 400 and "REQUIRED_FIELD_MISSING" in response.text:  # a new contact needs a name
            response = self._http.patch(path, json={**fields, "LastName": learner[:MAX_NAME]})
        response.raise_for_status()


def status_of(event: Event) -> str:
    if event["type"] == "session.launched":
        return "In progress"
    return {"passed": "Passed", "failed": "Failed"}.get(event["data"]["successStatus"], "Completed")


def external_id(learner: str) -> str:
    """The learner's id, or its SHA-256 where Salesforce cannot hold it: too long, or with control characters."""
    fits = len(learner) <= MAX_ID and min(learner) >= " "
    return learner if fits else hashlib.sha256(learner.encode()).hexdigest()


if __name__ == "__main__":
    contacts = Contacts(
        setting("SALESFORCE_URL", str, "the URL of your Salesforce, such as https://acme.example.com"),
        setting("SALESFORCE_TOKEN", str, "an access token of Salesforce"),
        setting("SALESFORCE_ID_FIELD", str, "the external id field of Contact, such as Learner_Id__c"),
    )
    serve(contacts.update)
