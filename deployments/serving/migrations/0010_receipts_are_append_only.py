"""Makes receipts of deletions append-only where it counts: in the database, for every client."""

from django.db import migrations

REFUSE = """
CREATE FUNCTION serving_deletionreceipt_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'receipts are append-only: % refused', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER serving_deletionreceipt_append_only
    BEFORE UPDATE OR DELETE ON serving_deletionreceipt
    FOR EACH ROW EXECUTE FUNCTION serving_deletionreceipt_refuse();
"""

ALLOW = """
DROP TRIGGER serving_deletionreceipt_append_only ON serving_deletionreceipt;
DROP FUNCTION serving_deletionreceipt_refuse();
"""


class Migration(migrations.Migration):
    dependencies = [("serving", "0009_deletion")]

    operations = [migrations.RunSQL(REFUSE, ALLOW)]
