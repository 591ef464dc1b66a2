"""A text model that is being served: its prompts, its engine and its defaults."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from runtimes.errors import SetupError
from runtimes.served import ModelFacts
from runtimes.text.decoding import TextAssembler
from runtimes.text.engine import GenerationRequest, Sampling, TextEngine
from runtimes.text.prompts import PromptReader, PromptRefused


@dataclass(frozen=True)
class Piece:
    """News of one answer."""

    text: str
    """Text that became certain, possibly empty."""
    tokens: int
    """Tokens computed for it."""
    finish_reason: str | None = None
    """On the last piece: `stop` (end token or stop sequence) or `length`."""


@dataclass(frozen=True, kw_only=True)
class TextModel:
    """Everything needed to answer text requests."""

    facts: ModelFacts
    prompts: PromptReader
    engine: TextEngine
    end_tokens: frozenset[int]
    defaults: Sampling = field(default_factory=Sampling)
    """What the model's authors recommend in generation_config.json."""

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to compute."""
        self.engine.start(on_failure=on_failure)

    def stop(self) -> None:
        """Ends the computation."""
        self.engine.stop()

    async def warm_up(self) -> None:
        """Answers a greeting with two tokens, by the chat template if there is one. Raises SetupError."""
        if self.prompts.has_chat_template:
            try:
                prompt = await self.prompts.read_chat([{"role": "user", "content": "Hello"}])
            except PromptRefused as error:
                raise SetupError(f"the chat template cannot render a greeting: {error}") from error
        else:
            prompt = await self.prompts.read_text("Hello")
        request = GenerationRequest(prompt=prompt, max_tokens=2, sampling=Sampling(temperature=0.0))
        async for _ in self.answer(request):
            pass

    async def answer(
        self, request: GenerationRequest, *, stop: Sequence[str] = ()
    ) -> AsyncGenerator[Piece, None]:
        """The answer as it is computed; the last piece has the reason. Closing it stops the computation."""
        assembler = TextAssembler(decode=self.prompts.decode, stop=stop)
        unreported = 0
        reason = "length"
        async with aclosing(self.engine.generate(request)) as tokens:
            async for token in tokens:
                unreported += 1
                if token.id in self.end_tokens:
                    reason = "stop"
                    break
                text = assembler.push(token.id)
                if assembler.stopped:
                    yield Piece(text, unreported, "stop")
                    return
                yield Piece(text, unreported)
                unreported = 0
        rest = assembler.finish()
        yield Piece(rest, unreported, "stop" if assembler.stopped else reason)
