"""A node pack for tests alone: the tiny random models of `comfyui.real` as MODEL and CONDITIONING."""

from comfy_api.latest import ComfyExtension, io

from comfyui import real


class Model(io.ComfyNode):
    """A MODEL with random weights."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestModel", category="test", inputs=[io.String.Input("name")], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(real.make(name)[0])


class Text(io.ComfyNode):
    """A CONDITIONING of random tokens."""

    @classmethod
    def define_schema(cls):
        inputs = [io.String.Input("name"), io.Int.Input("tokens"), io.Int.Input("seed")]
        return io.Schema(node_id="TestText", category="test", inputs=inputs, outputs=[io.Conditioning.Output()])

    @classmethod
    def execute(cls, name, tokens, seed):
        return io.NodeOutput(real.MODELS[name][1].conditioning(tokens, seed))


class Pack(ComfyExtension):
    async def get_node_list(self):
        return [Model, Text]


async def comfy_entrypoint():
    return Pack()
