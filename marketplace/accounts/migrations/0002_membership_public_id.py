"""Gives memberships the id by which REST names them."""

from django.db import migrations

import marketplace.ids


def fill(apps, schema_editor):
    membership = apps.get_model("accounts", "Membership")
    for row in membership.objects.filter(public_id=None).iterator():
        row.public_id = marketplace.ids.make_public_id("mem")
        row.save(update_fields=["public_id"])


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        # In two steps, because one default would give every existing row the same id.
        migrations.AddField(
            model_name="membership",
            name="public_id",
            field=marketplace.ids.PublicIdField(
                editable=False, max_length=40, prefix="mem", unique=True, null=True, default=None
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="membership",
            name="public_id",
            field=marketplace.ids.PublicIdField(editable=False, max_length=40, prefix="mem", unique=True),
        ),
    ]
