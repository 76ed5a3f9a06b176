"""How databases of older versions become those of this one. Alembic runs ``env.py`` and what is in ``versions``."""
