from benchmarks.disk import peak_of, taken


def test_what_files_take_is_counted_and_the_most_is_kept(tmp_path):
    with peak_of(tmp_path) as peak:
        (tmp_path / "deep").mkdir()
        file = tmp_path / "deep" / "shard"
        file.write_bytes(b"x" * 1_000_000)
        most = taken(tmp_path)
        while peak.nbytes < most:
            pass
        file.unlink()
        assert taken(tmp_path) == 0
    assert peak.nbytes >= most >= 1_000_000


def test_what_is_not_there_takes_nothing(tmp_path):
    assert taken(tmp_path / "none") == 0
