"""The proof that nothing is lost: a fleet that keeps account of every reading, on real parts that are made to fail.

``make chaos`` runs it; ``docs/durability.md`` says what it does and how to read its table.
"""
