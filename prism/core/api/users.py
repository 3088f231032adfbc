# SPDX-License-Identifier: Apache-2.0
"""Users, for administrators, and everybody's own open sessions: the same orders as on the console's pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet
from django_otp.plugins.otp_totp.models import TOTPDevice
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from prism.core.api.base import actor_of, checked
from prism.core.api.resource import Resource
from prism.core.exceptions import Conflict
from prism.core.models import SignInSession
from prism.core.services import limits, roles, second_factor, sessions, signins, tokens, users
from prism.core.services.roles import Role
from prism.webkit.permissions import Administer


class UserSerializer(serializers.ModelSerializer[User]):
    """`locked_until`: after too many failures no sign-in is tried before; null when it is not locked."""

    role = serializers.SerializerMethodField()
    second_factor = serializers.SerializerMethodField()
    locked_until = serializers.SerializerMethodField()

    _locked: dict[str, datetime] | None = None

    class Meta:
        model = User
        fields = ["id", "username", "role", "is_active", "second_factor", "locked_until", "date_joined", "last_login"]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=Role.choices))
    def get_role(self, user: User) -> str:
        return roles.role_of(user).value

    def get_second_factor(self, user: User) -> bool:
        known = getattr(user, "guarded", None)
        return second_factor.is_on(user) if known is None else bool(known)

    def get_locked_until(self, user: User) -> datetime | None:
        if self._locked is None:
            self._locked = limits.locked_names()
        return self._locked.get(user.username)


class NewUserSerializer(serializers.Serializer[None]):
    username = serializers.CharField(max_length=users.NAME_CHARACTERS_MAX)
    role = serializers.ChoiceField(choices=Role.choices, default=Role.VIEWER.value)


class ChangeUserSerializer(serializers.Serializer[None]):
    role = serializers.ChoiceField(choices=Role.choices, required=False)
    is_active = serializers.BooleanField(required=False)


class OneTimePasswordSerializer(serializers.Serializer[Any]):
    """The password is shown here and nowhere again; it is to be changed at the first sign-in."""

    user = UserSerializer()
    one_time_password = serializers.CharField()
    valid_hours = serializers.IntegerField()


class SessionSerializer(serializers.ModelSerializer[SignInSession]):
    class Meta:
        model = SignInSession
        fields = ["id", "opened_at", "last_seen_at", "address", "agent"]
        read_only_fields = fields


class CountSerializer(serializers.Serializer[Any]):
    ended = serializers.IntegerField(help_text="How many there were.")


class UserViewSet(Resource, viewsets.ReadOnlyModelViewSet[User]):
    """For administrators. Filters: `username`, `is_active`. Nobody changes the own account here, and the last
    administrator stays one.
    """

    permission_classes = [Administer]
    shown_once = frozenset({"create", "reset_password"})
    serializer_class = UserSerializer
    observed = frozenset({"last_login", "locked_until"})
    filters = {"username": "username", "is_active": "is_active"}
    search = ("username",)
    sorts = {"name": "username", "since": "date_joined", "last": "last_login"}
    lookup_value_regex = r"[0-9]{1,9}"

    def get_queryset(self) -> QuerySet[User]:
        guarded = TOTPDevice.objects.filter(user_id=OuterRef("pk"), confirmed=True)
        return roles.with_roles().annotate(guarded=Exists(guarded)).order_by("username")

    @extend_schema(request=NewUserSerializer, responses={201: OneTimePasswordSerializer})
    def create(self, request: Request) -> Response:
        """Invite somebody: an account with a one-time password."""
        user, password = users.invite(actor=actor_of(request), **checked(NewUserSerializer, request))
        return self._shown_once(user, password, status.HTTP_201_CREATED)

    @extend_schema(request=ChangeUserSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Another role, or disabled and enabled: both hold from the next request on."""
        user, values = self.get_object(), checked(ChangeUserSerializer, request)
        if "role" in values:
            users.set_role(user, values["role"], actor=actor_of(request))
        if "is_active" in values:
            users.set_active(user, values["is_active"], actor=actor_of(request))
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=None, responses=OneTimePasswordSerializer)
    @action(detail=True, methods=["post"], url_path="reset-password")
    def reset_password(self, request: Request, pk: str) -> Response:
        """A one-time password in place of a forgotten one; all sessions of the user end."""
        user = self.get_object()
        return self._shown_once(user, users.reset_password(user, actor=actor_of(request)), status.HTTP_200_OK)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def unlock(self, request: Request, pk: str) -> Response:
        """Let the user try to sign in again at once."""
        signins.unlock(username=self.get_object().username, actor=actor_of(request))
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], url_path="second-factor-off")
    def second_factor_off(self, request: Request, pk: str) -> Response:
        """For a lost phone: the password alone is enough until the user sets it up again."""
        second_factor.disable(self.get_object(), actor=actor_of(request))
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=None, responses=CountSerializer)
    @action(detail=True, methods=["post"], url_path="revoke-tokens")
    def revoke_tokens(self, request: Request, pk: str) -> Response:
        """All API tokens of the user stop working at once."""
        live = list(self.get_object().api_tokens.filter(revoked_at__isnull=True))
        for token in live:
            tokens.revoke(token, actor=actor_of(request))
        return Response({"ended": len(live)})

    @extend_schema(request=None, responses=CountSerializer)
    @action(detail=True, methods=["post"], url_path="end-sessions")
    def end_sessions(self, request: Request, pk: str) -> Response:
        """Sign the user out everywhere."""
        return Response({"ended": sessions.end_all(self.get_object(), actor=actor_of(request))})

    @extend_schema(responses=SessionSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def sessions(self, request: Request, pk: str) -> Response:
        """Where the user is signed in, seen last first."""
        return Response(SessionSerializer(sessions.of(self.get_object()), many=True).data)

    def _shown_once(self, user: User, password: str, code: int) -> Response:
        body = {"user": user, "one_time_password": password, "valid_hours": users.ONE_TIME_HOURS}
        return Response(OneTimePasswordSerializer(body, context=self.get_serializer_context()).data, status=code)


class SessionViewSet(Resource, mixins.ListModelMixin, viewsets.GenericViewSet[SignInSession]):
    """Where the caller is signed in to the console."""

    permission_classes = [IsAuthenticated]
    queryset = SignInSession.objects.none()
    serializer_class = SessionSerializer
    lookup_value_regex = r"[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[SignInSession]:
        user = self.request.user
        return sessions.of(user) if isinstance(user, User) else SignInSession.objects.none()

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Sign that browser out."""
        if not isinstance(request.user, User):
            raise Conflict("no_user", "Only a user has sessions.")
        sessions.end(request.user, int(pk), actor=actor_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)
