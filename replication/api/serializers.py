# SPDX-License-Identifier: Apache-2.0
"""Shapes of requests and answers. What a value may be is checked by the services."""

from __future__ import annotations

from rest_framework import serializers

from replication.models import RemoteSite, Replication
from replication.models.remote_site import CONTROL_PORT, DATA_PORT
from replication.services.pairing import PairingOffer


class AddressSerializer(serializers.Serializer[None]):
    """One address of a site."""

    host = serializers.CharField(max_length=253)
    control_port = serializers.IntegerField(default=CONTROL_PORT)
    data_port = serializers.IntegerField(default=DATA_PORT)


class RemoteSiteSerializer(serializers.ModelSerializer[RemoteSite]):
    """A remote site. Operators compare `pairing_fingerprint`; the certificate stays inside."""

    class Meta:
        model = RemoteSite
        fields = [
            "uuid",
            "name",
            "site_uuid",
            "capability",
            "addresses",
            "container_map",
            "network_map",
            "compress",
            "status",
            "fingerprint",
            "pairing_fingerprint",
            "latency_seconds",
            "last_seen_at",
            "peer_info",
            "created_at",
        ]


class RemoteSiteOrderSerializer(serializers.Serializer[None]):
    """Body of create and update. The last three are refused until they exist."""

    name = serializers.CharField(max_length=200)
    addresses = AddressSerializer(many=True)
    capability = serializers.CharField(required=False)
    container_map = serializers.DictField(required=False)
    network_map = serializers.DictField(required=False)
    compress = serializers.BooleanField(required=False)
    proxy = serializers.JSONField(required=False)
    ssh_tunnel = serializers.JSONField(required=False)
    bandwidth_policy = serializers.JSONField(required=False)


class PairSerializer(serializers.Serializer[None]):
    """Body of pair."""

    host = serializers.CharField(max_length=253)
    code = serializers.CharField(max_length=64)
    control_port = serializers.IntegerField(default=CONTROL_PORT)


class PairingOfferSerializer(serializers.Serializer[PairingOffer]):
    """The code, shown once."""

    code = serializers.CharField()
    expires_at = serializers.DateTimeField()
    fingerprint = serializers.CharField()


class ReplicationSerializer(serializers.ModelSerializer[Replication]):
    """A replication with its progress."""

    site: serializers.SlugRelatedField[RemoteSite] = serializers.SlugRelatedField(slug_field="uuid", read_only=True)
    site_name = serializers.CharField(source="site.name", read_only=True)

    class Meta:
        model = Replication
        exclude = ["id", "manifest", "owner", "session", "term", "enqueued_at"]
