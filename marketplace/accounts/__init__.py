"""Who may do what: users, organizations, memberships, API keys, and the audit trail of every change."""
