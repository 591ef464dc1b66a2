"""What is offered: models, their pinned versions, recipes to run them, frameworks and licenses."""
