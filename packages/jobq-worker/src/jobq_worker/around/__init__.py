"""What stands around a handler: its call, context, middleware, resources and follow-ups."""
