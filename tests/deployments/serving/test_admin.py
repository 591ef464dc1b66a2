from django.test import Client

from deployments.serving.models import Deployment, Revision
from marketplace.accounts.models import User
from tests.market import Market
from tests.people import Person


def test_staff_see_a_deployment_with_its_revisions_and_change_nothing(alice: Person, market: Market) -> None:
    alice.api.post("/api/v1/deployments/", {"name": "bot", "model": "tests/chatter", "flavor": "test-small"})
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff@example.com", "correct horse battery"))
    path = f"/admin/serving/deployment/{Deployment.objects.get().pk}/"
    page = staff.get(f"{path}change/")
    assert page.status_code == 200
    assert Revision.objects.get().author in page.content.decode()
    assert "_save" not in page.content.decode()
    refused = [staff.post(f"{path}change/", {"name": "x"}), staff.post(f"{path}delete/", {"post": "yes"})]
    assert [answer.status_code for answer in refused] == [403, 403]
    assert Deployment.objects.get().name == "bot"
