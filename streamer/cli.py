"""The command line: words to settings, settings to commands, errors to one line and an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from streamer.commands import benching, estimates, migrating, operating, options
from streamer.commands.options import AsJson, Bootstrap, Config, ModelOption, ProviderOption, Set
from streamer.commands.run import run
from streamer.commands.running import bind, report, run_async, settings_from
from streamer.commands.writing import let_go_of_standard_output, name_standard_streams
from streamer.version import version

app = typer.Typer(
    name="streamer",
    help="Text events in, embedding vectors out, and a live answer to: have we seen this before, and is it strange?",
    epilog="Every command takes --debug, which shows the traceback of an error. Exit codes: 0 done, 1 unexpected, "
    "2 wrong settings or arguments, 3 something outside cannot be reached or written.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamer {version()}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
    config: Config = None,
) -> None:
    del version
    if config is not None and context.invoked_subcommand is not None:  # which takes it too, and whose own wins
        context.default_map = {context.invoked_subcommand: {"config": config}}


app.command(epilog="Example: streamer run -b localhost:9092 --input reviews --provider openai --workers 2")(run)


@app.command(epilog="Example: streamer index -b localhost:9092 --port 8080")
def index(
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    port: Annotated[int | None, typer.Option("--port", metavar="PORT", help="http.port")] = None,
    provider: ProviderOption = None,
    model: ModelOption = None,
) -> None:
    """Run the indexer: vector topic in, verdicts and searches out."""
    from streamer.app.indexer import run_indexer

    settings = settings_from(
        config, set_ or [], kafka__bootstrap_servers=bootstrap_servers, http__port=port, provider__name=provider,
        provider__model=model,
    )  # fmt: skip
    run_async(run_indexer, settings)


@app.command(epilog="Example: streamer publish reviews.csv --text-field body --key-field id")
def publish(
    file: Annotated[
        Path | None,
        typer.Argument(help="text, .csv, .tsv, .jsonl or .json, also .gz; standard input without it or with -"),
    ] = None,
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    topic: Annotated[str | None, typer.Option("--topic", "-t", metavar="TOPIC", help="default: topics.input")] = None,
    format_: options.FormatOption = "auto",
    text_field: options.TextField = None,
    key_field: options.KeyField = None,
    delimiter: options.Delimiter = None,
    columns: options.Columns = None,
    no_quotes: options.NoQuotes = False,
    encoding: options.Encoding = None,
    from_line: Annotated[
        int, typer.Option("--from-line", metavar="N", min=1, help="go on where an earlier run ended")
    ] = 1,
    skip_bad: options.SkipBad = False,
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=0, help="messages per second; 0: as fast as it goes")
    ] = 0,
) -> None:
    """Publish texts from a file or standard input to the text topic.

    The text goes where a worker with the same settings reads it (input.text_field); other fields stay beside it.
    """
    from streamer.commands.publish import Publishing
    from streamer.commands.publish import publish as publish_file

    wanted = Publishing(
        format=options.file_format(format_, delimiter, columns, encoding, no_quotes=no_quotes), topic=topic,
        text_field=text_field, key_field=key_field, from_line=from_line, skip_bad=skip_bad, rate=rate,
    )  # fmt: skip
    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    path = None if file is None or str(file) == "-" else file
    typer.echo(run_async(bind(publish_file, settings, path, wanted)), err=True)


@app.command(epilog="Example: streamer tail verdicts --json --from-beginning")
def tail(
    stream: Annotated[str, typer.Argument(help="vectors, verdicts or dead-letters")] = "vectors",
    config: Config = None,
    set_: Set = None,
    bootstrap_servers: Bootstrap = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="not only what is new")] = False,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="only verdicts or dead letters of it, as in anomaly")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="stop after so many")] = None,
    as_json: AsJson = False,
) -> None:
    """Watch an output topic."""
    from streamer.commands.tail import STREAMS
    from streamer.commands.tail import tail as tail_stream

    if stream not in STREAMS:
        raise typer.BadParameter(f"{stream!r} is not one of {', '.join(STREAMS)}", param_hint="STREAM")
    settings = settings_from(config, set_ or [], kafka__bootstrap_servers=bootstrap_servers)
    run_async(
        bind(tail_stream, settings, stream, kind=kind, from_beginning=from_beginning, limit=limit, as_json=as_json)
    )


@app.command(epilog='Example: streamer search "where is my parcel" -k 3')
def search(
    text: str,
    config: Config = None,
    set_: Set = None,
    url: options.Url = None,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="how many")] = 10,
    min_similarity: Annotated[float | None, typer.Option("--min-similarity", min=-1, max=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a running indexer what is most similar to a text."""
    from streamer.commands.search import search as search_text

    settings = settings_from(config, set_ or [])
    run_async(bind(search_text, settings, text, url=url, k=k, min_similarity=min_similarity, as_json=as_json))


@app.command(
    epilog='Example: streamer embed "hello world"    or: streamer embed --file texts.txt --output vectors.npy    or: '
    "streamer embed --file reviews.csv --text-field body --id-field id --output vectors.jsonl"
)
def embed(
    texts: Annotated[list[str] | None, typer.Argument()] = None,
    config: Config = None,
    set_: Set = None,
    file: options.SampleFile = None,
    format_: options.FormatOption = "auto",
    text_field: options.TextField = None,
    id_field: Annotated[
        str | None, typer.Option("--id-field", metavar="NAME", help="the file's column or field that names each text")
    ] = None,
    delimiter: options.Delimiter = None,
    columns: options.Columns = None,
    no_quotes: options.NoQuotes = False,
    encoding: options.Encoding = None,
    skip_bad: options.SkipBad = False,
    output: options.Output = None,
    query: Annotated[
        bool, typer.Option("--query", help="as a query, for models that tell queries from documents")
    ] = False,
    fit_pca: Annotated[
        int | None, typer.Option("--fit-pca", metavar="N", min=1, help="save a projection to N dimensions instead")
    ] = None,
    quantize: options.Quantize = None,
    provider: ProviderOption = None,
    model: ModelOption = None,
) -> None:
    """Embed texts without Kafka: save the vectors, or print them. Run again, it goes on where it was stopped."""
    from streamer.commands.embed import Sources
    from streamer.commands.embed import embed as embed_texts
    from streamer.commands.embed import fit_pca as fit

    settings = settings_from(config, set_ or [], provider__name=provider, provider__model=model)
    sources = Sources(
        texts=texts or [], path=file, text_field=text_field or settings.input.text_field, id_field=id_field,
        format=options.file_format(format_, delimiter, columns, encoding, no_quotes=no_quotes), skip_bad=skip_bad,
    )  # fmt: skip
    if quantize is not None:
        from streamer.commands.embed import texts_of
        from streamer.commands.quantize import MOST_TEXTS
        from streamer.commands.quantize import quantize as quantize_model

        run_async(bind(quantize_model, quantize, texts_of(sources, MOST_TEXTS), output=output))
        return
    if fit_pca is not None:
        run_async(bind(fit, settings, sources, output=output, dimensions=fit_pca))
        return
    purpose = "query" if query else "document"
    run_async(bind(embed_texts, settings, sources, output=output, purpose=purpose))


operating.register(app)
migrating.register(app)


@app.command(epilog="Example: streamer demo --once")
def demo(
    once: Annotated[bool, typer.Option("--once", help="exit after the summary")] = False,
) -> None:
    """Everything on this machine, with a sample stream."""
    from streamer.commands.demo import demo as run_demo

    run_async(bind(run_demo, once=once))


estimates.register(app)
benching.register(app)


def main() -> None:
    """Entry point: runs a command and exits with its code."""
    _open_standard_streams()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
        os.environ["STREAMER_DEBUG"] = "1"
    # Read when numpy is first imported, hence here, and hence nothing that this file imports may import numpy: with
    # more BLAS threads a product takes the event loop's core, too, and they spin between products.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    name_standard_streams()
    code: int | str | None = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    except BaseException as exc:  # noqa: BLE001 - the last place that can turn an error into one line and a code
        code = report(exc, debug=debug)
    try:
        sys.stdout.flush()  # at the exit, an error of it would be nobody's
    except OSError as exc:
        code = code or report(exc, debug=debug)
        let_go_of_standard_output()
    sys.exit(code)


def _open_standard_streams() -> None:
    """Those that whoever started us has closed: a file or connection would get the number, and our output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, closefd=False))
