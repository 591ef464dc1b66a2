"""What PostgreSQL itself holds of the bill: no overlaps, no changed history.

TRUNCATE is left to the owner of the table: in production the application's role should not own it.
"""

import django.contrib.postgres.constraints
import django.core.validators
import django.db.models.functions.comparison
from django.db import migrations, models


TEXT_RANGE = """
CREATE TYPE usage_uid_range AS RANGE (subtype = text, collation = "C");
"""

PRICE_FIGURES_STAY = """
CREATE FUNCTION billing_price_figures_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.public_id, NEW.flavor_id, NEW.region_id, NEW.organization_id, NEW.per_second, NEW.currency,
            lower(NEW.valid))
        IS DISTINCT FROM
        (OLD.public_id, OLD.flavor_id, OLD.region_id, OLD.organization_id, OLD.per_second, OLD.currency,
            lower(OLD.valid))
    THEN
        RAISE EXCEPTION 'price % never changes: end its validity and add another', OLD.public_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER price_figures_stay BEFORE UPDATE ON billing_price
    FOR EACH ROW EXECUTE FUNCTION billing_price_figures_stay();
"""

USAGE_IS_APPEND_ONLY = """
CREATE FUNCTION billing_usage_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'usage is append-only: % of interval % refused', TG_OP, OLD.public_id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER usage_is_append_only BEFORE UPDATE OR DELETE ON billing_usageinterval
    FOR EACH ROW EXECUTE FUNCTION billing_usage_is_append_only();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_initial'),
        ('billing', '0001_initial'),
        ('hardware', '0001_initial'),
    ]

    operations = [
        migrations.RunSQL(TEXT_RANGE, "DROP TYPE usage_uid_range;"),
        migrations.AlterField(
            model_name='price',
            name='currency',
            field=models.CharField(max_length=3, validators=[django.core.validators.RegexValidator('^[A-Z]{3}$', 'Write the three letters of ISO 4217, such as EUR.')]),
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=models.CheckConstraint(condition=models.Q(('valid__isempty', False), ('valid__lower_inf', False)), name='price_validity_has_a_start', violation_error_message='A price needs a moment from which it is valid, before its end.'),
        ),
        migrations.AddConstraint(
            model_name='price',
            constraint=django.contrib.postgres.constraints.ExclusionConstraint(expressions=[(models.Func(models.F('flavor'), models.F('flavor'), models.Value('[]'), function='int8range'), '&&'), (models.Func(models.F('region'), models.F('region'), models.Value('[]'), function='int8range'), '&&'), (models.Func(django.db.models.functions.comparison.Coalesce('organization', 0), django.db.models.functions.comparison.Coalesce('organization', 0), models.Value('[]'), function='int8range'), '&&'), ('valid', '&&')], name='one_price_at_a_time', violation_error_message='Another price of this flavor and region is valid at that time.'),
        ),
        migrations.AddConstraint(
            model_name='usageinterval',
            constraint=models.CheckConstraint(condition=models.Q(('during__isempty', False), ('during__lower_inf', False), ('during__upper_inf', False)), name='usage_is_closed_and_not_empty'),
        ),
        migrations.AddConstraint(
            model_name='usageinterval',
            constraint=django.contrib.postgres.constraints.ExclusionConstraint(expressions=[(models.Func(models.F('replica_uid'), models.F('replica_uid'), models.Value('[]'), function='usage_uid_range'), '&&'), ('during', '&&')], name='no_second_of_a_replica_twice'),
        ),
        migrations.RunSQL(
            PRICE_FIGURES_STAY,
            "DROP TRIGGER price_figures_stay ON billing_price; DROP FUNCTION billing_price_figures_stay();",
        ),
        migrations.RunSQL(
            USAGE_IS_APPEND_ONLY,
            "DROP TRIGGER usage_is_append_only ON billing_usageinterval;"
            "DROP FUNCTION billing_usage_is_append_only();",
        ),
    ]
