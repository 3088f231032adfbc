# SPDX-License-Identifier: Apache-2.0

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("replication", "0002_replication_of_domain"),
    ]

    operations = [
        migrations.AlterField(
            model_name="replication",
            name="phase",
            field=models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("offer", "Offering the snapshot to the remote site"),
                    ("fold", "Preparing the snapshot, sending what is ready"),
                    ("sync", "Sending data"),
                    ("arrived", "Waiting for the remote site to confirm"),
                    ("done", "Done"),
                ],
                default="queued",
                max_length=10,
            ),
        ),
    ]
