from typing import ClassVar

import django.utils.timezone
from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import F


def take_first_upload_as_last(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Later uploads of the same file were not recorded."""
    apps.get_model("tuning", "DatasetVersion").objects.update(last_uploaded_at=F("created_at"))


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tuning", "0001_initial")]

    operations: ClassVar = [
        migrations.AddField(
            model_name="datasetversion",
            name="last_uploaded_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
        ),
        migrations.RunPython(take_first_upload_as_last, migrations.RunPython.noop),
    ]
