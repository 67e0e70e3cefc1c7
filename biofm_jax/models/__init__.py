"""Pure-functional models: a frozen spec becomes `Model(init, apply, axes)`."""
