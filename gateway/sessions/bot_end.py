"""What the end of a link means: the bot is done with the call, or its worker is lost and another one takes over.

    close       | protocol, worker             | what it did                  | the bot is
    ------------+------------------------------+------------------------------+-----------------------------------------
    1000, 1005  | any                          | any                          | done: it may have moved the call itself
    1006        | pcm; or of a worker host     | any                          | lost: our workers close, it was killed
    1006        | relay, static                | spoke; its worker answers    | done: Pipecat's image lets go of TCP
                |                              | HTTP still                   | when `bot()` has returned
    1006        | relay, static                | spoke; its worker answers no | lost: killed
                |                              | more                         |
    1006        | relay, static                | had not said a word          | lost: it raised as it began, or lacks
                |                              |                              | credentials; its image closes as always
    1011        | any                          | any                          | lost: it raised, and its worker says so
    4002        | of a worker host             | any                          | lost here, as its host drains
    no pong     | any                          | any                          | lost: it hangs
    4001        | of a worker host             | any                          | served by another node: neither

What a bot of Pipecat's image did that raised after its first words looks like a normal end: the image says no more.
"""

from __future__ import annotations

from gateway.media.endpoints import LinkEndpoint
from gateway.node.node import Node
from gateway.node.static_workers import answers, same_process
from gateway.pool.registry import Claim
from gateway.protocol.codes import CloseCode


async def is_done(node: Node, claim: Claim, link: LinkEndpoint, code: int) -> bool:
    """Return whether the bot has ended its part of the call. link: which has closed with this code, or does not answer.

    See the module's docstring.
    """
    if code in (CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RECEIVED):
        return True
    if code != CloseCode.ABNORMAL_CLOSURE or not claim.starts_bot_per_link or claim.worker is None:
        return False
    hangs = not link.gone.is_set()
    return link.spoke and not hangs and await answers(node, claim.worker)


def workers_to_avoid(node: Node, claim: Claim, code: int, *, broke_again: bool) -> frozenset[str]:
    """Return the workers not to be taken after this one was lost: none if it may live, and is to be connected to again.

    A link that broke is opened once more. That goes for one that does not answer, too: this process may have been
    suspended. If another node has the call by now, the worker answers 409.

    code: which its link closed with.
    broke_again: it had served the call before, and broke soon after this link was opened.
    """
    said_it_ended = code in (CloseCode.BOT_RAISED, CloseCode.DRAINING)
    if broke_again or said_it_ended or claim.starts_bot_per_link:
        return same_process(node, claim)
    return frozenset()
