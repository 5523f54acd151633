"""PGD: against a slow plain version, its bounds, and the direction of its steps."""

import torch

from attacks.pgd import minimise_noise
from tests.small import make_clip
from victims.clip import clip_loss


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (6, 3, 8, 8), generator=generator, dtype=torch.uint8)
    weight = torch.randn(6, 3, 8, 8, generator=generator)
    return images, weight


def test_equals_a_plain_loop_over_pixels() -> None:
    images, weight = made()
    start = torch.randint(-5, 6, images.shape, dtype=torch.int8, generator=torch.Generator().manual_seed(1))
    found = minimise_noise(images, start, lambda x, _: (weight * (x - 0.4).square()).sum(), eps=5, steps=4, step_size=2)
    expected = start.flatten().tolist()
    for place, (pixel, w) in enumerate(zip(images.flatten().tolist(), weight.flatten().tolist(), strict=True)):
        noise = max(-min(5, pixel), min(expected[place], min(5, 255 - pixel)))
        for _ in range(4):
            gradient = 2 * w * ((pixel + noise) / 255 - 0.4)
            noise -= 2 * ((gradient > 0) - (gradient < 0))
            noise = max(-min(5, pixel), min(noise, min(5, 255 - pixel)))
        expected[place] = noise
    assert found.flatten().tolist() == expected


def test_noise_is_bounded_and_the_image_stays_8_bit() -> None:
    images, weight = made()
    images[0], images[1] = 0, 255
    noise = minimise_noise(
        images,
        torch.zeros_like(images, dtype=torch.int8),
        lambda x, _: (weight * x).sum(),
        eps=8,
        steps=20,
        step_size=3,
    )
    assert noise.dtype == torch.int8
    assert int(noise.abs().max()) == 8
    total = images.to(torch.int16) + noise
    assert int(total.min()) >= 0
    assert int(total.max()) <= 255


def test_noise_lowers_the_clip_loss_of_its_surrogate() -> None:
    clip = make_clip().for_inference()
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    text = clip.encode_tokens(
        clip.tokenizer([f"{word} thing" for word in "red green dog cat sun moon car boat".split()])
    )

    def loss(points: torch.Tensor, step: int) -> torch.Tensor:
        return clip_loss(clip.encode_images(points), text, clip.scale)

    noise = minimise_noise(images, torch.zeros_like(images, dtype=torch.int8), loss, eps=8, steps=8, step_size=1)
    clean, protected = (
        float(loss(x.float() / 255, 0)) for x in (images.to(torch.int16), images.to(torch.int16) + noise)
    )
    assert protected < clean - 0.003
