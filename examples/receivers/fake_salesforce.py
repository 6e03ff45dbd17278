"""A stand-in for Salesforce, for trying crm.py: upserts of contacts, kept in memory; GET /contacts shows them.

Settings: PORT, SALESFORCE_TOKEN.
"""

from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse, Response
from receiver import setting

MAX_ID = 255


def create_app(token: str) -> FastAPI:
    app = FastAPI(openapi_url=None)
    contacts: dict[str, dict[str, Any]] = {}

    @app.patch("/services/data/{version}/sobjects/Contact/{id_field}/{value:path}")
    async def upsert(
        id_field: str, value: str, fields: dict[str, Any], authorization: Annotated[str, Header()] = ""
    ) -> Response:
        if authorization != f"Bearer {token}":
            return problem(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if len(value) > MAX_ID:
            return problem(400, "STRING_TOO_LONG", f"{id_field}: data value too large")
        known = contacts.get(value)
        if known is None and "LastName" not in fields:
            return problem(400, "REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]")
        contacts[value] = {**(known or {id_field: value}), **fields}
        return Response(status_code=204) if known else JSONResponse({"success": True, "created": True}, 201)

    @app.get("/contacts")
    async def show() -> list[dict[str, Any]]:
        return list(contacts.values())

    return app


def problem(status: int, code: str, message: str) -> Response:
    return JSONResponse([{"errorCode": code, "message": message}], status)


if __name__ == "__main__":
    app = create_app(setting("SALESFORCE_TOKEN", str, "the access token that clients must send"))
    uvicorn.run(app, port=setting("PORT", int, "the port to listen on"), access_log=False)
