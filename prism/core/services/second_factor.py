# SPDX-License-Identifier: Apache-2.0
"""The second step of signing in: a code of an authenticator app (TOTP, RFC 6238), or a recovery code, once each.

django-otp knows the algorithm, remembers the last step that was used, and slows guesses at one device down.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b32encode
from math import ceil

import segno
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from prism.core.actor import Actor
from prism.core.exceptions import Conflict, InvalidInput
from prism.core.models import RecoveryCode
from prism.core.services import audit

DEVICE_NAME = "authenticator"
RECOVERY_CODES = 10
RECOVERY_BYTES = 10
DIGITS = re.compile(r"[0-9]{6}")
CODE_CHARACTERS_MAX = 40


def is_on(user: User) -> bool:
    """Whether signing in asks for a code."""
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def codes_left(user: User) -> int:
    """Recovery codes that were not used."""
    return RecoveryCode.objects.filter(user=user, used_at__isnull=True).count()


def begin(user: User) -> TOTPDevice:
    """The device that is being enrolled: until it is confirmed the same one, so that a reload changes no picture.

    Two windows that begin at once may leave two rows: the oldest counts, here and in `confirm`.
    """
    _off_or_conflict(user)
    begun = _enrolling(user).first()
    return begun or TOTPDevice.objects.create(user=user, name=DEVICE_NAME, confirmed=False)


def secret_text(device: TOTPDevice) -> str:
    """The secret in groups of four, for typing."""
    text = b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def picture(device: TOTPDevice) -> str:
    """The enrolment as an inline SVG without styles or scripts, dark on light in every theme."""
    code = segno.make(device.config_url, error="m", micro=False)
    return str(
        code.svg_inline(scale=5, border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None)
    )


def confirm(user: User, *, code: str, actor: Actor) -> list[str]:
    """Turn it on with a code that shows that the app has the secret. Returns the recovery codes, shown this once."""
    with audit.order("second_factor.enable", actor=actor, object_type="user", object_name=user.username, atomic=False):
        with transaction.atomic():
            _off_or_conflict(user)
            device = _enrolling(user).select_for_update().first()
            if device is None:
                raise Conflict("not_begun", "There is no enrolment to confirm.", "Begin again.")
            accepted = _device_takes(device, code)
            codes = _switch_on(user, device) if accepted else []
        if not accepted:  # outside the transaction: a wrong guess stays counted
            raise InvalidInput(
                "code", "This is not the code of now.", "Check that the phone's clock is right, and type the next one."
            )
    return codes


def renew_codes(user: User, *, actor: Actor) -> list[str]:
    """Ten new recovery codes; the old ones are worth nothing."""
    with audit.order("second_factor.renew_codes", actor=actor, object_type="user", object_name=user.username):
        if not is_on(user):
            raise Conflict("second_factor_off", "Two-step sign-in is off.")
        codes = _new_codes(user)
    return codes


def disable(user: User, *, actor: Actor) -> None:
    """Off, by its owner or for somebody who lost phone and codes. Secret and codes are deleted."""
    with audit.order("second_factor.disable", actor=actor, object_type="user", object_name=user.username):
        TOTPDevice.objects.filter(user=user).delete()
        RecoveryCode.objects.filter(user=user).delete()


def check(user: User, code: str) -> str | None:
    """What `code` is: "code", "recovery code", or None when it is wrong or used. It is used up by this."""
    text = code[:CODE_CHARACTERS_MAX].replace(" ", "")
    with transaction.atomic():
        if DIGITS.fullmatch(text):
            device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=True).first()
            return "code" if device is not None and _device_takes(device, text) else None
        used = RecoveryCode.objects.filter(user=user, code_hash=_hash(text), used_at__isnull=True)
        return "recovery code" if used.update(used_at=timezone.now()) else None


def wait_seconds(user: User) -> int:
    """How long codes of the app are refused after wrong ones (django-otp doubles it each time); 0: not at all."""
    device = TOTPDevice.objects.filter(user=user, confirmed=True).first()
    if device is None:
        return 0
    allowed, why = device.verify_is_allowed()
    return 0 if allowed else max(1, ceil((why["locked_until"] - timezone.now()).total_seconds()))


def _device_takes(device: TOTPDevice, code: str) -> bool:
    text = code.replace(" ", "")
    return bool(DIGITS.fullmatch(text)) and bool(device.verify_token(text))


def _enrolling(user: User) -> QuerySet[TOTPDevice]:
    found: QuerySet[TOTPDevice] = TOTPDevice.objects.filter(user=user, confirmed=False).order_by("pk")
    return found


def _switch_on(user: User, device: TOTPDevice) -> list[str]:
    device.confirmed = True
    device.save(update_fields=["confirmed"])
    _enrolling(user).delete()
    return _new_codes(user)


def _new_codes(user: User) -> list[str]:
    RecoveryCode.objects.filter(user=user).delete()
    codes = [_spelled(secrets.token_bytes(RECOVERY_BYTES)) for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, code_hash=_hash(code)) for code in codes)
    return codes


def _spelled(random: bytes) -> str:
    """16 letters and digits without 0, 1, 8 and 9, in groups of four."""
    text = b32encode(random).decode().lower()
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def _hash(code: str) -> str:
    return hashlib.sha256(code.replace("-", "").lower().encode()).hexdigest()


def _off_or_conflict(user: User) -> None:
    if is_on(user):
        raise Conflict("second_factor_on", "Two-step sign-in is on already.", "Turn it off first to use another phone.")
