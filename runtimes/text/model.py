"""A text model that is being served: its prompts, its engine and its defaults."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtimes.errors import SetupError
from runtimes.served import ModelFacts
from runtimes.text.decoding import TextAssembler, TokenAligner
from runtimes.text.engine import GenerationRequest, Sampling, TextEngine, Token
from runtimes.text.prompts import PromptReader, PromptRefused

if TYPE_CHECKING:
    # Imports torch, which the front must not wait for.
    from runtimes.text.grammar import GrammarCompiler


@dataclass(frozen=True)
class Piece:
    """News of one answer."""

    text: str
    """Text that became certain, possibly empty."""
    tokens: int
    """Tokens computed for it."""
    finish_reason: str | None = None
    """On the last piece: `stop` (end token or stop sequence) or `length`."""
    shown: Sequence[Token] = ()
    """The tokens of the text, where their probabilities were asked for; end tokens are not shown."""


@dataclass(frozen=True, kw_only=True)
class TextModel:
    """Everything needed to answer text requests."""

    facts: ModelFacts
    prompts: PromptReader
    grammars: GrammarCompiler
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
        await self.grammars.wait_ready()
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
        self, request: GenerationRequest, *, stop: Sequence[str] = (), marks: Sequence[str] = ()
    ) -> AsyncGenerator[Piece, None]:
        """The answer as it is computed; the last piece has the reason. Closing it stops the computation.

        `marks` are special tokens that stay in the text; the others are left out.
        """
        assembler = TextAssembler(decode=self.prompts.decoder(keeping=marks), stop=stop)
        aligner = TokenAligner(bytes_of=self.grammars.token_bytes)
        tells_tokens = request.sampling.logprobs is not None
        unreported = 0
        reason = "length"
        shown: list[Token] = []
        text = ""
        async with aclosing(self.engine.generate(request)) as tokens:
            async for token in tokens:
                unreported += 1
                if token.id in self.end_tokens:
                    reason = "stop"
                    break
                text = assembler.push(token.id)
                if tells_tokens:
                    shown = aligner.push(token, text=text)
                if assembler.stopped:
                    break
                yield Piece(text, unreported, shown=shown)
                unreported, shown, text = 0, [], ""
        rest = assembler.finish()
        if tells_tokens:
            shown += aligner.finish(text=rest, stopped=assembler.stopped)
        yield Piece(text + rest, unreported, "stop" if assembler.stopped else reason, shown=shown)
