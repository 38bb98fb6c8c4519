"""Asks a running llamahome with instructor; asserts, and says so when all is as it should be.

    python tests/clients/instructor_client.py http://127.0.0.1:8085/v1 KEY MODEL
"""

import sys
import typing

import instructor
import openai
import pydantic


class Person(pydantic.BaseModel):
    name: typing.Annotated[str, pydantic.Field(max_length=20)]
    age: typing.Annotated[int, pydantic.Field(ge=0, le=120)]


def main(url, key, model):
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
    for mode in [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA]:
        told = instructor.from_openai(client, mode=mode).chat.completions.create(
            model=model, response_model=Person, max_retries=0, max_tokens=80, temperature=0,
            messages=[{"role": "user", "content": "Ana is 31 years old. Who is she?"}])
        assert isinstance(told, Person) and 0 <= told.age <= 120, (mode, told)
    print("all passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
