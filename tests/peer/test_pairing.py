# SPDX-License-Identifier: Apache-2.0
"""Pairing proofs."""

from __future__ import annotations

import dataclasses

import pytest

from stargate.errors import InvalidArgument
from stargate.peer.pairing import (
    ALPHABET,
    CODE_CHARS,
    Nonces,
    new_code,
    new_nonce,
    normalise_code,
    pairing_key,
    pairing_proof,
    pairing_proof_from_key,
    proof_matches,
)

NONCES = Nonces(server=b"s" * 32, client=b"c" * 32)


def test_it_makes_codes_of_80_bits_in_groups() -> None:
    codes = {new_code() for _ in range(100)}
    assert len(codes) == 100
    assert len(ALPHABET) ** CODE_CHARS >= 2**80
    assert all([len(group) for group in code.split("-")] == [4, 4, 4, 4] for code in codes)


def test_it_forgives_how_a_code_is_typed() -> None:
    assert normalise_code(" 7f3k 0qwx-9abd-mzoi") == "7F3K0QWX9ABDMZ01"


@pytest.mark.parametrize("typed", ["", "7F3K", "7F3K-0QWX-9ABD-MZ4!", "7F3K-0QWX-9ABD-MZ42-1", "U" * 16])
def test_it_refuses_what_cannot_be_a_code(typed: str) -> None:
    with pytest.raises(InvalidArgument):
        normalise_code(typed)


def test_it_proves_with_the_stored_key_what_the_code_proves() -> None:
    code = new_code()
    typed = code.lower().replace("-", " ")
    mine = pairing_proof_from_key(pairing_key(code), "server", "AA", "BB", NONCES)
    assert proof_matches(mine, pairing_proof(typed, "server", "AA", "BB", NONCES))


def test_it_changes_the_proof_with_every_part_of_the_transcript() -> None:
    code = new_code()
    proofs = [
        pairing_proof(code, "server", "AA", "BB", NONCES),
        pairing_proof(code, "client", "AA", "BB", NONCES),
        pairing_proof(code, "server", "AAB", "B", NONCES),
        pairing_proof(code, "server", "BB", "AA", NONCES),
        pairing_proof(code, "server", "AA", "BB", dataclasses.replace(NONCES, server=new_nonce())),
        pairing_proof(code, "server", "AA", "BB", dataclasses.replace(NONCES, client=new_nonce())),
        pairing_proof(new_code(), "server", "AA", "BB", NONCES),
    ]
    assert len(set(proofs)) == len(proofs)


def test_it_defeats_a_man_in_the_middle_who_relays_the_proof() -> None:
    code = new_code()
    client_sees_the_middle = pairing_proof(code, "client", "MIDDLE", "CLIENT", NONCES)
    server_expects = pairing_proof(code, "client", "SERVER", "MIDDLE", NONCES)
    assert not proof_matches(server_expects, client_sees_the_middle)


def test_it_refuses_a_short_nonce() -> None:
    with pytest.raises(InvalidArgument):
        pairing_proof(new_code(), "client", "A", "B", Nonces(server=b"", client=b"c" * 32))
