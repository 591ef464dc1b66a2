from django.urls import path

from deployments.serving.portal import DeploymentPage, DeploymentsPage, HomePage, ModelPage
from deployments.serving.rollout_portal import ReceiptDownload

urlpatterns = [
    path("", HomePage.as_view(), name="catalog"),
    path("models/<str:public_id>/", ModelPage.as_view(), name="model"),
    path("deployments/", DeploymentsPage.as_view(), name="deployments"),
    path("deployments/<str:public_id>/", DeploymentPage.as_view(), name="deployment"),
    path("deployments/<str:public_id>/receipt/", ReceiptDownload.as_view(), name="deletion-receipt"),
]
