"""The head with its loss, plain and in chunks of the tokens."""
import torch
import torch.nn.functional as F

from bench import all_finite


def section_head(b):
    from torch.utils.checkpoint import checkpoint

    def body(hidden, vocabulary, tokens, chunk, way):
        b.clean()
        x, w = (
            b.fresh(tokens, hidden).requires_grad_(),
            b.fresh(vocabulary, hidden, scale=hidden**-0.5).requires_grad_(),
        )
        labels = torch.randint(0, vocabulary, (tokens,), device=b.device)
        part = lambda x, y: F.cross_entropy(F.linear(x, w).float(), y, reduction="sum")

        def call():
            x.grad = w.grad = None
            if chunk:
                loss = sum(
                    checkpoint(part, xs, ys, use_reentrant=False)
                    for xs, ys in zip(x.split(chunk), labels.split(chunk))
                )
            else:
                loss = part(x, labels)
            if way == "forward_backward":
                (loss / tokens).backward()
            return loss

        out = b.time([call], target_s=0.15)
        good = all_finite(call(), *([x.grad, w.grad] if way == "forward_backward" else []))
        factor = 1 if way == "forward" else 4 if chunk else 3
        return {**out, "flops": 2 * factor * tokens * hidden * vocabulary, "verified": good}

    def grid(hiddens, vocabularies, tokens, chunks, ways=("forward_backward",)):
        for hidden in hiddens:
            for vocabulary in vocabularies:
                for t in tokens:
                    for chunk in chunks:
                        for way in ways:
                            if not chunk or chunk < t:
                                b.point(
                                    {
                                        "op": "head_loss",
                                        "hidden": hidden,
                                        "vocabulary": vocabulary,
                                        "tokens": t,
                                        "chunk": chunk,
                                        "way": way,
                                        "dtype": "bf16",
                                        "backend": "torch",
                                    },
                                    lambda: body(hidden, vocabulary, t, chunk, way),
                                    seconds=1 + hidden * vocabulary * t * 1e-13,
                                )

    if b.smoke:
        return grid([64], [100], [32], [0, 8], ("forward", "forward_backward"))
    grid([4096], [128256, 32000], [8192], [0, 2048])
    grid([4096, 8192], [128256, 32000], [2048, 32768], [0, 2048])
    grid([4096], [128256], [8192], [0, 2048], ("forward",))
    grid([4096], [128256], [16384, 65536], [0, 1024, 8192])
    grid([8192], [128256, 32000], [8192, 16384], [0, 2048])
