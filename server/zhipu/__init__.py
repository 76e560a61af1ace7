"""The Zhipu (BigModel) dialect: its routes, fields, errors and words."""
