"""A model behind HTTP: `app` has the routes, `bodies` reads images, `batches` gathers them, `slot` holds the model."""
