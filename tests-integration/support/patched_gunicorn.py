"""A configuration of gunicorn that patches for gevent before the app is loaded."""

from gevent import monkey

monkey.patch_all()
