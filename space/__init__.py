"""The web app: pages are wiring; service, jobs, chat and sign-in hold the work."""
