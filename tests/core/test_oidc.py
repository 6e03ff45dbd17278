"""Who is let in, by the claims of an OpenID Connect provider."""

from typing import Any

import pytest

from streams.core.accounts.access import Role
from streams.core.accounts.oidc import (
    AccountIdentity,
    EmailIdentity,
    NotAdmitted,
    OidcRules,
    OperatorIdentity,
    identify,
)

BY_EMAIL = OidcRules()
BY_ACCOUNT = OidcRules(account_claim="accounts", role_claim="role")
ADA = {"sub": "248289", "email": "ada@acme.example", "email_verified": True}


def test_a_verified_address_identifies_a_person() -> None:
    assert identify(ADA, BY_EMAIL) == EmailIdentity("oidc:248289", "ada@acme.example")


@pytest.mark.parametrize("verified", [False, None, "true", 1, "false", []])
def test_only_the_boolean_true_means_verified(verified: object) -> None:
    with pytest.raises(NotAdmitted, match="email_verified is not true"):
        identify({**ADA, "email_verified": verified}, BY_EMAIL)


@pytest.mark.parametrize("email", [None, "", 7, ["ada@acme.example"], "x" * 255, "a\0@acme.example"])
def test_an_address_is_a_text_of_usual_length(email: object) -> None:
    with pytest.raises(NotAdmitted, match="email is missing"):
        identify({**ADA, "email": email}, BY_EMAIL)


@pytest.mark.parametrize("subject", [None, "", 7, "x" * 256, "a\0", "\ud800"])
@pytest.mark.parametrize("rules", [BY_EMAIL, BY_ACCOUNT])
def test_a_subject_is_a_text_of_usual_length(rules: OidcRules, subject: object) -> None:
    with pytest.raises(NotAdmitted, match="claim sub"):
        identify({**ADA, "accounts": "acc_1", "sub": subject}, rules)


@pytest.mark.parametrize(
    ("claim", "account_ids"),
    [
        ("acc_1", ("acc_1",)),
        (["acc_2", "acc_1", "acc_2"], ("acc_2", "acc_1")),
        (["acc_1", 7, None, "", "x" * 129, "a\0"], ("acc_1",)),
    ],
)
def test_the_account_claim_is_one_id_or_a_list(claim: object, account_ids: tuple[str, ...]) -> None:
    found = identify({**ADA, "accounts": claim}, BY_ACCOUNT)
    assert found == AccountIdentity("oidc:248289", "ada@acme.example", account_ids, Role.MEMBER)


@pytest.mark.parametrize("claim", [None, "", [], 7, {"id": "acc_1"}, [["acc_1"]]])
def test_without_an_account_in_the_claim_nobody_is_let_in(claim: object) -> None:
    with pytest.raises(NotAdmitted, match="names no account"):
        identify({**ADA, "accounts": claim}, BY_ACCOUNT)


def test_a_person_has_at_most_100_accounts() -> None:
    with pytest.raises(NotAdmitted, match="names 101 accounts, and may name at most 100"):
        identify({**ADA, "accounts": [f"acc_{number}" for number in range(101)]}, BY_ACCOUNT)


@pytest.mark.parametrize(
    ("claim", "role"),
    [
        ("owner", Role.OWNER),
        ("viewer", Role.VIEWER),
        (["offline_access", "viewer"], Role.VIEWER),
        (["viewer", "owner", "member"], Role.OWNER),
        (None, Role.MEMBER),
        ("", Role.MEMBER),
        ([], Role.MEMBER),
    ],
)
def test_the_strongest_role_counts_and_member_is_the_default(claim: object, role: Role) -> None:
    found = identify({"sub": "1", "accounts": "acc_1", "role": claim}, BY_ACCOUNT)
    assert found == AccountIdentity("oidc:1", None, ("acc_1",), role)


@pytest.mark.parametrize("claim", ["admin", "Owner", ["admin"], 7, {"owner": True}, True])
def test_an_unknown_role_lets_nobody_in(claim: object) -> None:
    with pytest.raises(NotAdmitted, match="has none of the roles"):
        identify({"sub": "1", "accounts": "acc_1", "role": claim}, BY_ACCOUNT)


@pytest.mark.parametrize(("verified", "shown"), [(True, True), (None, True), (False, False)])
def test_an_address_that_is_not_verified_is_not_shown(verified: bool | None, shown: bool) -> None:
    claims: dict[str, Any] = {**ADA, "email_verified": verified, "accounts": "acc_1"}
    found = identify(claims, BY_ACCOUNT)
    assert isinstance(found, AccountIdentity)
    assert found.email == ("ada@acme.example" if shown else None)


@pytest.mark.parametrize("groups", ["operators", ["learners", "operators"]])
def test_the_operator_group_comes_before_accounts(groups: object) -> None:
    rules = OidcRules(account_claim="accounts", operator_group="operators")
    found = identify({**ADA, "accounts": "acc_1", "groups": groups}, rules)
    assert found == OperatorIdentity("oidc-operator:248289", "ada@acme.example")


@pytest.mark.parametrize("groups", [None, "Operators", ["operators2"], [["operators"]], {"operators": 1}])
def test_another_group_makes_no_operator(groups: object) -> None:
    found = identify({**ADA, "groups": groups}, OidcRules(operator_group="operators"))
    assert isinstance(found, EmailIdentity)


def test_without_the_setting_no_group_makes_an_operator() -> None:
    assert isinstance(identify({**ADA, "groups": [None, ""]}, BY_EMAIL), EmailIdentity)


@pytest.mark.parametrize(
    ("rules", "claims"),
    [
        (BY_EMAIL, {"email", "email_verified"}),
        (BY_ACCOUNT, {"accounts", "role"}),
        (OidcRules(operator_group="x"), {"email", "email_verified", "groups"}),
    ],
)
def test_the_rules_name_the_claims_that_decide(rules: OidcRules, claims: set[str]) -> None:
    assert rules.claims == claims
