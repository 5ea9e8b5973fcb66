"""A registered model over HTTP, as ``mlflow models serve`` gives it, but behind the guard of all servers.

``python -m serving.scoring models:/genre-classifier@champion --port 5001``
"""

from __future__ import annotations

import argparse
from typing import Final

from pipeline.errors import CmgError, run_main
from serving import password
from serving.guard import Guard, allowed_hosts

_PORT: Final = 5001


def build(uri: str) -> Guard:
    """Return the application that answers ``POST /invocations`` with a model's predictions.

    Parameters
    ----------
    uri
        Of the model, as MLflow writes it: ``models:/genre-classifier@champion``.

    Raises
    ------
    CmgError
        The store has no such model.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    from pipeline import tracking

    mlflow = tracking.configure()
    try:
        with tracking.reachable():
            model = mlflow.pyfunc.load_model(uri)
    except MlflowException as error:
        raise CmgError(
            f"expected a model at {uri}, received {str(error).splitlines()[0]} "
            "make registry registers what is trained; dvc repro trains."
        ) from None
    return Guard(scoring_server.init(model), auth=password.obtain(), hosts=allowed_hosts())


def main() -> None:
    """Serve the model named on the command line until stopped."""
    parser = argparse.ArgumentParser(prog="python -m serving.scoring", description=main.__doc__)
    parser.add_argument("model", help="for example models:/genre-classifier@champion")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default %(default)s")
    parser.add_argument("--port", type=int, default=_PORT, help="default %(default)s")
    args = parser.parse_args()
    app = build(args.model)
    import uvicorn

    print(f"http://{args.host}:{args.port}/invocations; make password prints user and password", flush=True)
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning")


if __name__ == "__main__":
    run_main(main)
