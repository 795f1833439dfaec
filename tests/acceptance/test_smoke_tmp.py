import asyncio
import pytest
from tests.acceptance.carriers import CARRIERS, NAMES
from tests.acceptance.program import Gateway, notes_of

@pytest.mark.parametrize("name", NAMES)
async def test_echo(name, gateway: Gateway, echo_bot):
    carrier = CARRIERS[name](gateway.url)
    call = carrier.new_call()
    answer = await carrier.voice(call, "campaign=spring")
    print(answer.response.text)
    async with carrier.phone(call, answer) as phone:
        await phone.hears_echo("first")
        await phone.press("#")
        print("code", await phone.ends())
    print(notes_of(echo_bot)[-6:])
    print("".join(gateway.lines))
    gateway.assert_clean()
