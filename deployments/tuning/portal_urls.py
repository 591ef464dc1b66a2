from django.urls import path

from deployments.tuning.portal import FineTuningPage, JobPage

urlpatterns = [
    path("fine-tuning/", FineTuningPage.as_view(), name="fine-tuning"),
    path("fine-tuning/<str:public_id>/", JobPage.as_view(), name="fine-tuning-job"),
]
