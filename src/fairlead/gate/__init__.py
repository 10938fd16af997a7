"""The criteria that a release must meet, and their record."""
