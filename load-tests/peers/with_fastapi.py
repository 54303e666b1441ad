"""FastAPI and onnxruntime, as a tutorial would: each request runs by itself in the thread pool."""

import fastapi
import uvicorn
from starlette.concurrency import run_in_threadpool

import settings

app = fastapi.FastAPI()
model = settings.model()


@app.post("/classify")
async def classify(request: fastapi.Request):
    return await run_in_threadpool(work, await request.body())


def work(body):
    (row,) = model.run(model.prepare(body)[None])
    return model.answer(row)


if __name__ == "__main__":
    uvicorn.run("with_fastapi:app", port=settings.PORT, workers=settings.PROCESSES, log_level="warning", access_log=False)
