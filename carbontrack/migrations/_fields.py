"""An operation that migrations share: several new columns of a table that others may refer to."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tortoise.migrations import operations as ops


class AddFields(ops.AddField):
    """Several fields at once, taken back by SQL.

    Tortoise would make the table anew on SQLite and drop the old one, which is refused where rows refer to it.
    """

    def __init__(self, model_name: str, fields: list[tuple[str, Any]]) -> None:
        super().__init__(model_name, "", None)
        self.fields = fields

    def describe(self) -> str:
        return f"Add {len(self.fields)} fields to {self.model_name}"

    def state_forward(self, app_label: str, state: Any) -> None:
        model_state = self.get_model_state(state, app_label, self.model_name)
        model_state.fields.update(deepcopy(dict(self.fields)))
        state.reload_models({(app_label, self.model_name)})

    async def database_forward(
        self,
        app_label: str,
        old_state: Any,  # noqa: ARG002  # the signature is that of Tortoise
        new_state: Any,
        state_editor: Any = None,
    ) -> None:
        model = new_state.apps.get_model(f"{app_label}.{self.model_name}")
        for name, _ in self.fields:
            await state_editor.add_field(model, name)

    async def database_backward(
        self,
        app_label: str,
        old_state: Any,
        new_state: Any,  # noqa: ARG002  # the signature is that of Tortoise
        state_editor: Any = None,
    ) -> None:
        table = old_state.apps.get_model(f"{app_label}.{self.model_name}")._meta.db_table  # noqa: SLF001  # no other way
        for name, _ in self.fields:
            await state_editor.client.execute_script(f'ALTER TABLE "{table}" DROP COLUMN "{name}"')
