from video_jobs.errors import EngineDied, InternalFault, JobError, OutOfGpuMemory, error_for


def leaves(root: type[JobError]) -> list[type[JobError]]:
    return [root] + [leaf for child in root.__subclasses__() for leaf in leaves(child)]


def test_every_error_has_a_code_of_its_own_and_a_message() -> None:
    codes = [error.code for error in leaves(JobError)]

    assert len(codes) == len(set(codes))
    assert all(error().message.endswith(".") for error in leaves(JobError))


def test_the_tree_is_drawn_whole() -> None:
    from video_jobs import errors

    assert all(error.__name__ in (errors.__doc__ or "") for error in leaves(JobError))


def test_a_code_crosses_the_pipe_and_comes_back_as_its_class() -> None:
    assert isinstance(error_for("out_of_gpu_memory", "3 GB short"), OutOfGpuMemory)
    assert error_for("engine_died").retryable is EngineDied.retryable is True


def test_an_unknown_code_is_an_internal_fault() -> None:
    assert isinstance(error_for("from the future"), InternalFault)
