import stat

from django.contrib.auth import authenticate

from marketplace.accounts.models import User
from marketplace.embedded.credentials import credentials_file, ensure_credentials, read_credentials


def test_the_first_start_writes_credentials_that_work_for_the_owner_alone(db, tmp_path):
    made = ensure_credentials(tmp_path, database_is_ours=True)
    assert read_credentials(tmp_path) == made
    assert stat.S_IMODE(credentials_file(tmp_path).stat().st_mode) == 0o600
    assert authenticate(username=made.admin_email, password=made.admin_password).is_staff


def test_a_later_start_keeps_them(db, tmp_path):
    made = ensure_credentials(tmp_path, database_is_ours=True)
    assert ensure_credentials(tmp_path, database_is_ours=True) == made


def test_credentials_lost_before_they_were_written_are_made_anew(db, tmp_path):
    ensure_credentials(tmp_path, database_is_ours=True)
    credentials_file(tmp_path).unlink()
    made = ensure_credentials(tmp_path, database_is_ours=True)
    assert authenticate(username=made.user_email, password=made.user_password) is not None


def test_no_password_is_changed_in_a_database_of_somebody_else(db, tmp_path):
    before = ensure_credentials(tmp_path, database_is_ours=False)
    credentials_file(tmp_path).unlink()
    after = ensure_credentials(tmp_path, database_is_ours=False)
    assert (after.admin_password, after.user_password, after.api_key) == (None, None, None)
    assert authenticate(username=before.admin_email, password=before.admin_password) is not None


def test_a_new_database_under_an_old_file_gets_new_secrets(db, tmp_path):
    before = ensure_credentials(tmp_path, database_is_ours=True)
    User.objects.filter(email=before.admin_email).delete()
    after = ensure_credentials(tmp_path, database_is_ours=True)
    assert authenticate(username=after.admin_email, password=after.admin_password) is not None
    assert after.user_password == before.user_password
