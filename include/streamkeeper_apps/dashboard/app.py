"""The page that Streamlit runs: what is looked at is chosen beside it, two views show it."""

from __future__ import annotations

import streamlit as st

from streamkeeper.errors import DeclarationError
from streamkeeper.settings import Settings
from streamkeeper.spec.models import Spec
from streamkeeper_apps.dashboard.live import live_view
from streamkeeper_apps.dashboard.parts import escaped, guarded
from streamkeeper_apps.dashboard.trend import trend_view
from streamkeeper_apps.streams import declared, stream_names, unknown
from streamkeeper_apps.where import find_settings

VIEWS = {"live": "Live: what is happening now", "trend": "Trend: what is the trend"}
REFRESH = {"2 s": 2, "5 s": 5, "15 s": 15, "60 s": 60, "off": None}
# While an answer is on its way the old one stays as it is, instead of fading.
_STYLE = """<style>
[data-stale='true'] {opacity: 1 !important; transition: none !important}
[data-testid='stMainBlockContainer'] {padding-top: 2.5rem}
</style>"""


def page() -> None:
    """Draw the page."""
    st.set_page_config(page_title="Streamkeeper", layout="wide")
    st.html(_STYLE)
    with guarded("the settings"):
        settings = find_settings()
        spec = _chosen(settings)
        if spec is not None:
            _show(settings, spec)


def _chosen(settings: Settings) -> Spec | None:
    """Return the stream that is looked at; what is wrong with it is told instead."""
    names = stream_names(settings)
    asked = st.query_params.get("stream")
    index = names.index(asked) if asked in names else 0 if asked is None and names else None
    with st.sidebar:
        st.markdown("### Streamkeeper")
        name = st.selectbox("Stream", names, index=index, placeholder="choose a stream")
    if name is None:
        if asked is not None:
            st.error(escaped(str(unknown(settings, asked))), icon=":material/error:")
        else:
            st.info(
                f"No stream is declared: there is no \\*.yaml file in {escaped(settings.streams)}. "
                "`streamkeeper new NAME` writes one to begin with.",
                icon=":material/info:",
            )
        return None
    if name != asked:
        st.query_params["stream"] = name
    try:
        return declared(settings, name)
    except DeclarationError as error:
        st.error(f"The declaration of {name} has mistakes:", icon=":material/error:")
        st.code(str(error), language=None, wrap_lines=True)
        return None


def _show(settings: Settings, spec: Spec) -> None:
    asked = st.query_params.get("view")
    with st.sidebar:
        view = st.radio(
            "View",
            list(VIEWS),
            index=list(VIEWS).index(asked) if asked in VIEWS else 0,
            format_func=lambda key: VIEWS[key],
        )
        refresh = st.selectbox("Look again every", list(REFRESH), index=1)
    if view != (asked or "live"):
        st.query_params["view"] = view
    st.markdown(f"## {escaped(spec.name)}")
    st.caption(escaped(spec.description))
    if view == "live":
        live_view(settings, spec, REFRESH[refresh])
    else:
        trend_view(settings, spec, REFRESH[refresh])


page()
