"""What a published version says of its files never changes, and it is never deleted: held by PostgreSQL.

TRUNCATE is left to the owner of the table.
"""

from django.db import migrations

PUBLISHED_VERSION_STAYS = """
CREATE FUNCTION catalog_published_version_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.published_at IS NULL THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'version % is published and cannot be deleted: unlist its model', OLD.public_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (NEW.public_id, NEW.model_id, NEW.parent_id, NEW.revision, NEW.files, NEW.storage_path, NEW.is_adapter,
            NEW.parameters, NEW.precision, NEW.weights_bytes, NEW.context_length, NEW.architecture,
            NEW.created_at, NEW.published_at)
        IS DISTINCT FROM
        (OLD.public_id, OLD.model_id, OLD.parent_id, OLD.revision, OLD.files, OLD.storage_path, OLD.is_adapter,
            OLD.parameters, OLD.precision, OLD.weights_bytes, OLD.context_length, OLD.architecture,
            OLD.created_at, OLD.published_at)
    THEN
        RAISE EXCEPTION 'version % is published and never changes: publish another', OLD.public_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER published_version_stays BEFORE UPDATE OR DELETE ON catalog_modelversion
    FOR EACH ROW EXECUTE FUNCTION catalog_published_version_stays();
"""

REVERSE = """
DROP TRIGGER published_version_stays ON catalog_modelversion;
DROP FUNCTION catalog_published_version_stays();
"""


class Migration(migrations.Migration):

    dependencies = [("catalog", "0003_import_passes")]

    operations = [migrations.RunSQL(PUBLISHED_VERSION_STAYS, REVERSE)]
