"""Writes a GGUF file without tensors that holds the SentencePiece-style tokenizer of stories260k, with token ids of texts."""
import json

from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer

from common import DATA, GOLDEN, write_json

FOLDER = DATA / "llama-stories260k"
TEXTS = ["Once upon a time", " leading space", "two  spaces  and 123", "naïve 🙂 bytes\n\tand lines\n", "", "Lily said, \"I'm happy!\" <3", "▁ itself"]


def kind_of(token, index):
    if index == 0:
        return TokenType.UNKNOWN
    if index < 3:
        return TokenType.CONTROL
    return TokenType.BYTE if token.startswith("<0x") else TokenType.NORMAL


if __name__ == "__main__":
    source = json.loads((FOLDER / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(source, key=source.get)
    (GOLDEN / "gguf").mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(GOLDEN / "gguf" / "tokenizer-spm.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    # Merges of this vocabulary are in the order of their ids, so that a falling score says the same.
    writer.add_token_scores([-float(index - 259) if index >= 259 else 0.0 for index in range(len(tokens))])
    writer.add_token_types([kind_of(token, index) for index, token in enumerate(tokens)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    built = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    write_json(GOLDEN / "gguf" / "tokenizer-spm.json", {"texts": [
        {"text": text, "ids": (ids := built.encode(text).ids), "decoded": built.decode(ids)} for text in TEXTS]})
