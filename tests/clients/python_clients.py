# pyright: basic, reportMissingImports=false, reportUnknownVariableType=false
"""Every Python client of DeepInfra's API that runs in ``.venv-clients``; prints what each got as one JSON document.

::

    python python_clients.py http://127.0.0.1:8000 KEY MODEL
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

URL, KEY, MODEL = sys.argv[1:]
os.environ.update(DEEPINFRA_API_KEY=KEY, DEEPINFRA_API_TOKEN=KEY, DEEPINFRA_API_BASE=f"{URL}/v1/openai")
os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", HF_HUB_OFFLINE="1")
PROMPT = "[INST] Hello! [/INST]"
MESSAGES = [{"role": "user", "content": "Hello!"}]


def refusal(call: Callable[[], Any]) -> dict[str, str]:
    """The kind and the sentence of the error that *call* raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whichever the client has for it
        return {"kind": type(error).__name__, "message": str(error)}
    return {"kind": "none", "message": ""}


def deepinfra() -> dict[str, Any]:
    """``deepinfra`` takes a whole URL for a model."""
    from deepinfra import TextGeneration

    path = f"{URL}/v1/inference/{MODEL}"
    answer = TextGeneration(path, KEY).generate({"input": PROMPT, "temperature": 0})
    return {
        "text": answer.results[0]["generated_text"],
        "num_tokens": answer.num_tokens,
        "num_input_tokens": answer.num_input_tokens,
        "status": answer.inference_status["status"],
        "refused": refusal(lambda: TextGeneration(path, "wrong").generate({"input": PROMPT})),
        "invalid": refusal(lambda: TextGeneration(path, KEY).generate({"input": PROMPT, "temperature": -1})),
    }


def langchain_community() -> dict[str, Any]:
    """Its native model has no setting for the host, so its URL is patched."""
    from langchain_community.chat_models import ChatDeepInfra
    from langchain_community.llms import DeepInfra
    from langchain_core.messages import AIMessage, HumanMessage

    class Native(DeepInfra):
        def _url(self) -> str:
            return f"{URL}/v1/inference/{self.model_id}"

    native = Native(model_id=MODEL, model_kwargs={"temperature": 0})
    chat = ChatDeepInfra(model=MODEL, url=f"{URL}/v1/openai/chat/completions", temperature=0)
    turns = [HumanMessage("Hello!"), AIMessage("Hi."), HumanMessage("Tell me a joke")]

    async def later() -> str:
        return str((await chat.ainvoke("Hello!")).content)

    return {
        "native": native.invoke(PROMPT),
        "native_stream": "".join(native.stream(PROMPT)),
        "chat": chat.invoke("Hello!").content,
        "chat_turns": chat.invoke(turns).content,
        "chat_stream": "".join(str(chunk.content) for chunk in chat.stream("Hello!")),
        "chat_async": asyncio.run(later()),
    }


def litellm() -> dict[str, Any]:
    """By DEEPINFRA_API_BASE."""
    import litellm

    model = f"deepinfra/{MODEL}"
    whole = litellm.completion(model=model, messages=MESSAGES, temperature=0)
    short = litellm.completion(model=model, messages=MESSAGES, temperature=0, max_completion_tokens=1)
    stream = litellm.completion(model=model, messages=MESSAGES, temperature=0, stream=True)
    return {
        "text": whole.choices[0].message.content,
        "short_tokens": short.usage.completion_tokens,
        "stream": "".join(chunk.choices[0].delta.content or "" for chunk in stream),
    }


def llama_index() -> dict[str, Any]:
    """By its ``api_base``, which is a host."""
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.deepinfra import DeepInfraLLM

    model = DeepInfraLLM(model=MODEL, api_base=URL, api_key=KEY, temperature=0, max_tokens=100, max_retries=1)
    messages = [ChatMessage(role="user", content="Hello!")]
    return {
        "complete": model.complete(PROMPT).text,
        "complete_stream": "".join(part.delta or "" for part in model.stream_complete(PROMPT)),
        "chat": model.chat(messages).message.content,
        "chat_stream": "".join(part.delta or "" for part in model.stream_chat(messages)),
        "calls_functions": model.metadata.is_function_calling_model,
    }


print(json.dumps({client.__name__: client() for client in (deepinfra, langchain_community, litellm, llama_index)}))
