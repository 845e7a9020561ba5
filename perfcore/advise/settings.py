"""Settings of the server that its own counters speak against."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perfcore.advise.server_state import MB, ServerState, SettingValue
from perfcore.advise.upkeep import (
    alter_database,
    assumed_memory,
    hours_between,
    literal_bytes,
    power_of_two_mb,
    setting_words,
    size_literal,
    size_words,
    span_words,
    suggest,
    suggest_setting,
)
from perfcore.advise.workload import Options
from perfcore.types import Catalog, Finding, IndexInfo, Suggestion

GB = 1024 * MB
MIN_BLOCKS_READ = 100_000  # 800 MB: below, a ratio of hits says nothing
WARM_HIT_RATIO = 0.95
SHARED_QUARTER = 0.25  # of the memory: the manual's rule
SHARED_TOO_MUCH = 0.5
CACHE_SHARE = 0.75  # of the memory that caches a database's blocks, shared_buffers included
CACHE_TOO_LITTLE = 0.4
MIN_TIMED_READS = 10_000
FAST_READ_MS = 1.0  # a disk that must turn takes four and more
SLOW_READ_MS = 4.0
SSD_PAGE_COST = "1.1"
DISK_PAGE_COST = "4"
CONCURRENT_READS = "16"  # the default since 18
MIN_REQUESTED = 5
REQUESTED_SHARE = 0.3
COMPLETION_TARGET = "0.9"  # the default since 14
MIN_TIMED_CHECKPOINTS = 5
JIT_SHARE = 0.3
MIN_JIT_MS = 1_000.0
EVICTIONS_PER_HOUR = 1.0
MIN_EVICTIONS = 5
MAX_LISTED = 20_000
SORTED_TIMES = 8  # an index so many times as large as the memory is sorted through the disk
MAINTENANCE_SHARE = 0.05
_Rule = Callable[[ServerState, Catalog, Options], Iterator[Suggestion]]


def setting_advice(server: ServerState, catalog: Catalog, options: Options) -> list[Suggestion]:
    """Return the settings that should be others, each with the counters that show it."""
    return [s for rule in _RULES for s in rule(server, catalog, options)]


def _shared_buffers(
    server: ServerState, catalog: Catalog, options: Options
) -> Iterator[Suggestion]:
    setting = server.setting("shared_buffers")
    if setting is None:
        return
    present, memory = setting.size_bytes, server.memory_bytes
    if memory is not None and present > SHARED_TOO_MUCH * memory:
        yield _too_much_shared(setting, memory, server, options)
    elif _misses_much(server) and server.counters.database_bytes > present:
        if memory is None:
            yield _memory_wanted(setting, server, options)
        else:
            yield from _more_shared(setting, memory, server, options)


def _misses_much(server: ServerState) -> bool:
    c = server.counters
    ratio = c.blks_hit / max(c.blks_hit + c.blks_read, 1)
    return c.blks_read >= MIN_BLOCKS_READ and ratio < WARM_HIT_RATIO


def _miss_finding(server: ServerState) -> Finding:
    c = server.counters
    ratio = 100 * c.blks_hit / max(c.blks_hit + c.blks_read, 1)
    hours = hours_between(c.stats_since, c.read_at)
    return Finding(
        "small_shared_buffers",
        f"In {span_words(hours)} {ratio:.1f} % of the block reads of {c.database} were answered "
        f"from shared_buffers; {size_words(c.blks_read * 8192)} had to be asked for outside.",
        (
            ("blocks hit", f"{c.blks_hit:,}"),
            ("blocks read", f"{c.blks_read:,}"),
            ("database", size_words(c.database_bytes)),
        ),
    )


_VERIFY_HITS = (
    "SELECT blks_hit, blks_read FROM pg_stat_database WHERE datname = current_database(): after "
    f"a day the share of hits should be above {100 * WARM_HIT_RATIO:.0f} %."
)


def _more_shared(
    setting: SettingValue, memory: int, server: ServerState, options: Options
) -> Iterator[Suggestion]:
    wanted = size_literal(min(SHARED_QUARTER * memory, 1.25 * server.counters.database_bytes))
    if literal_bytes(wanted) < 1.5 * setting.size_bytes:
        return
    yield suggest_setting(
        options,
        setting,
        wanted,
        f"Give shared_buffers {wanted}",
        _miss_finding(server),
        f"The server has {size_words(memory)} of memory ({server.memory_source}) and keeps only "
        f"{setting_words(setting)} of blocks itself. A quarter of the memory, and no more than the "
        "database, is where the manual says to begin.",
        verify=_VERIFY_HITS,
        caveats=("The operating system's cache may answer what PostgreSQL's does not.",),
    )


def _too_much_shared(
    setting: SettingValue, memory: int, server: ServerState, options: Options
) -> Suggestion:
    wanted = size_literal(SHARED_QUARTER * memory)
    share = 100 * setting.size_bytes / memory
    return suggest_setting(
        options,
        setting,
        wanted,
        f"Take shared_buffers back to {wanted}",
        Finding(
            "large_shared_buffers",
            f"shared_buffers takes {share:.0f} % of the {size_words(memory)} of memory.",
            (("memory", size_words(memory)),),
        ),
        "What is left must hold the sorts and hashes of all sessions and the operating system's "
        "cache, in which the same blocks lie a second time; when it does not, the server is ended "
        f"for want of memory. The memory was {server.memory_source}.",
        verify="Free memory on the host under load; hits in pg_stat_database should hardly fall.",
    )


def _memory_wanted(setting: SettingValue, server: ServerState, options: Options) -> Suggestion:
    return suggest(
        options,
        "setting",
        "setting/shared_buffers",
        "Compare shared_buffers with the host's memory",
        _miss_finding(server),
        "Whether shared_buffers can grow depends on the host's memory, which Perfcore cannot see "
        "from here. Set PERFCORE_TARGET_MEMORY_MB=name=megabytes, and a value is proposed.",
        present=setting_words(setting),
        proposed="a quarter of the host's memory",
        verify=_VERIFY_HITS,
        caveats=("It begins with a restart of the server.",),
    )


def _effective_cache_size(
    server: ServerState, catalog: Catalog, options: Options
) -> Iterator[Suggestion]:
    setting, memory = server.setting("effective_cache_size"), server.memory_bytes
    if setting is None or memory is None:
        return
    present, size = setting.size_bytes, server.counters.database_bytes
    too_little = present < CACHE_TOO_LITTLE * memory and size > present
    if not too_little and present <= memory:
        return
    wanted = size_literal(CACHE_SHARE * memory)
    effect = (
        "planner believes that an index's blocks are read from disk again and again, and prefers "
        "to read whole tables"
        if too_little
        else "planner counts on blocks in a cache that the host does not have"
    )
    yield suggest_setting(
        options,
        setting,
        wanted,
        f"Tell the planner of {wanted} of cache",
        Finding(
            "effective_cache_size",
            f"effective_cache_size says {setting_words(setting)}; the host has "
            f"{size_words(memory)} of memory and the database takes {size_words(size)}.",
            (("memory", size_words(memory)), ("database", size_words(size))),
        ),
        f"It reserves nothing: it only says how much of the database may lie in the caches. With "
        f"the present value the {effect}. Three quarters of the memory, {server.memory_source}.",
        verify="EXPLAIN of the slow statements before and after; costs of index scans fall.",
        risk="Plans may change, for the better as a rule.",
    )


def _random_page_cost(
    server: ServerState, catalog: Catalog, options: Options
) -> Iterator[Suggestion]:
    setting, read_ms = server.setting("random_page_cost"), _ms_per_read(server)
    if setting is None or read_ms is None:
        return
    ratio = setting.number / max(server.number("seq_page_cost", 1.0), 1e-9)
    if read_ms <= FAST_READ_MS and ratio >= 2:
        yield _page_cost(setting, SSD_PAGE_COST, read_ms, server, options)
    elif read_ms >= SLOW_READ_MS and ratio < 2:
        yield _page_cost(setting, DISK_PAGE_COST, read_ms, server, options)


def _ms_per_read(server: ServerState) -> float | None:
    reads = server.reads
    if reads is None or reads.reads < MIN_TIMED_READS or reads.read_ms <= 0:
        return None
    return reads.read_ms / reads.reads


def _page_cost(
    setting: SettingValue, value: str, read_ms: float, server: ServerState, options: Options
) -> Suggestion:
    assert server.reads is not None
    is_fast = value == SSD_PAGE_COST
    reason = (
        "The default of 4 is for disks that turn. Where a random read costs hardly more than the "
        "next one, it keeps the planner from indexes that would be faster."
        if is_fast
        else "Reads are as slow as of a disk that turns or a far volume, where random ones cost "
        "far more than the next; the planner is told that they cost the same."
    )
    return suggest_setting(
        options,
        setting,
        value,
        f"Set random_page_cost to {value}",
        Finding(
            "random_page_cost",
            f"A read of a block takes {read_ms:,.3f} ms in the mean, of {server.reads.reads:,} "
            f"timed ones; random_page_cost is {setting.text}.",
            (("reads", f"{server.reads.reads:,}"), ("time", f"{server.reads.read_ms:,.0f} ms")),
        ),
        reason,
        verify="EXPLAIN (ANALYZE, BUFFERS) of slow statements before and after; the time of those "
        "whose plan changed must fall.",
        risk="Plans may change.",
        caveats=(
            "Reads that the operating system's cache answers are among the timed ones"
            + (", and on this version sequential ones." if server.major < 16 else "."),
        ),
    )


def _effective_io_concurrency(
    server: ServerState, catalog: Catalog, options: Options
) -> Iterator[Suggestion]:
    setting, read_ms = server.setting("effective_io_concurrency"), _ms_per_read(server)
    if setting is None or read_ms is None or read_ms > FAST_READ_MS or setting.number > 1:
        return
    assert server.reads is not None
    if server.reads.reads < MIN_BLOCKS_READ:
        return
    yield suggest_setting(
        options,
        setting,
        CONCURRENT_READS,
        f"Let bitmap scans ask for {CONCURRENT_READS} blocks ahead",
        Finding(
            "effective_io_concurrency",
            f"{server.reads.reads:,} blocks were read one after the other, {read_ms:,.3f} ms each.",
            (("reads", f"{server.reads.reads:,}"),),
        ),
        "Storage without moving parts answers many reads at a time; a bitmap heap scan asks ahead "
        f"for as many as effective_io_concurrency says. {CONCURRENT_READS} is the default since "
        "PostgreSQL 18.",
        verify="EXPLAIN (ANALYZE, BUFFERS) of a statement with a Bitmap Heap Scan on a cold cache.",
    )


def _max_wal_size(server: ServerState, catalog: Catalog, options: Options) -> Iterator[Suggestion]:
    setting, seen = server.setting("max_wal_size"), server.checkpoints
    if setting is None or seen is None or server.counters.is_standby:
        return
    whole = seen.timed + seen.requested
    if seen.requested < MIN_REQUESTED or seen.requested < REQUESTED_SHARE * whole:
        return
    hours = max(hours_between(seen.since, server.counters.read_at), 1 / 60)
    timeout = server.setting("checkpoint_timeout")
    per_hour = 3600e3 / timeout.duration_ms if timeout else 12.0
    if seen.requested / hours < REQUESTED_SHARE * per_hour:
        return  # so few were asked for by somebody, or by backups
    wanted = size_literal(power_of_two_mb(_wal_wanted_bytes(setting, server, per_hour)) * MB)
    yield suggest_setting(
        options,
        setting,
        wanted,
        f"Let max_wal_size grow to {wanted}",
        _checkpoint_finding(seen.requested, whole, hours, server),
        "A checkpoint that the write-ahead log asks for comes before its time: all changed blocks "
        "are written at once, and the first change of each block after it writes the whole block "
        "into the log again. Checkpoints should come by checkpoint_timeout.",
        verify="The requested ones of pg_stat_checkpointer (pg_stat_bgwriter before 17) should "
        "hardly grow from now on.",
        risk="The log may take as much room on disk, and a crash's recovery reads more of it.",
    )


def _wal_wanted_bytes(setting: SettingValue, server: ServerState, per_hour: float) -> float:
    """Return room for the log between two timed checkpoints, twice what there is at least."""
    least = 2 * setting.size_bytes
    if server.wal is None or server.wal.wal_bytes is None:
        return least
    hours = max(hours_between(server.wal.since, server.counters.read_at), 1 / 60)
    between = server.wal.wal_bytes / hours / per_hour
    target = server.number("checkpoint_completion_target", 0.9)
    return max(least, 1.25 * between * (1 + target))


def _checkpoint_finding(requested: int, whole: int, hours: float, server: ServerState) -> Finding:
    wal = server.wal.wal_bytes if server.wal else None
    numbers = (("window", span_words(hours)), ("checkpoints", f"{whole:,}"))
    told = (("write-ahead log written", size_words(wal)),) if wal is not None else ()
    return Finding(
        "requested_checkpoints",
        f"{requested:,} of {whole:,} checkpoints in {span_words(hours)} came because max_wal_size "
        "was reached, not by time.",
        (*numbers, *told),
    )


def _completion_target(
    server: ServerState, catalog: Catalog, options: Options
) -> Iterator[Suggestion]:
    setting, seen = server.setting("checkpoint_completion_target"), server.checkpoints
    if setting is None or seen is None or setting.number >= 0.7:
        return
    if seen.timed + seen.requested < MIN_TIMED_CHECKPOINTS:
        return
    yield suggest_setting(
        options,
        setting,
        COMPLETION_TARGET,
        "Spread checkpoints over their interval",
        Finding(
            "checkpoint_burst",
            f"{seen.timed + seen.requested:,} checkpoints each wrote their blocks within "
            f"{100 * setting.number:.0f} % of the time to the next.",
            (("checkpoints", f"{seen.timed + seen.requested:,}"),),
        ),
        "The same blocks written over nine tenths of the interval disturb the queries less. It is "
        "the default since PostgreSQL 14.",
        verify="log_checkpoints = on: the write time of a checkpoint nears checkpoint_timeout.",
    )


def _track_io_timing(
    server: ServerState, catalog: Catalog, options: Options
) -> Iterator[Suggestion]:
    setting = server.setting("track_io_timing")
    if setting is None or setting.is_on:
        return
    yield suggest_setting(
        options,
        setting,
        "on",
        "Time the reads",
        Finding("io_not_timed", "track_io_timing is off: nobody knows how long reads take."),
        "Without it neither plans nor pg_stat_statements tell whether a statement waits for the "
        "disk, and random_page_cost cannot be compared with what reads really take.",
        verify="SELECT blk_read_time FROM pg_stat_database grows.",
        caveats=("Where pg_test_timing shows more than 100 ns a call, its cost is felt.",),
    )


def _jit(server: ServerState, catalog: Catalog, options: Options) -> Iterator[Suggestion]:
    setting, cost = server.setting("jit"), server.jit
    if setting is None or not setting.is_on or cost is None or cost.jit_ms < MIN_JIT_MS:
        return
    if cost.jit_ms < JIT_SHARE * cost.exec_ms:
        return
    share = 100 * cost.jit_ms / cost.exec_ms
    ddl, undo = alter_database(server, "jit", "off")
    yield suggest(
        options,
        "setting",
        "setting/jit",
        "Turn just-in-time compilation off",
        Finding(
            "jit",
            f"{cost.jit_ms / 1000:,.1f} s of the {cost.exec_ms / 1000:,.1f} s ({share:.0f} %) that "
            f"{cost.statements:,} compiled statements took went into compiling them.",
            (("statements", f"{cost.statements:,}"), ("calls", f"{cost.calls:,}")),
        ),
        "Compiling repays itself in statements that run for seconds; these take below a second in "
        "the mean, and are compiled anew on every call.",
        ddl=ddl,
        undo=undo,
        present="on",
        proposed="off",
        verify="The jit columns of pg_stat_statements stop growing, and mean_exec_time falls.",
        risk="Long analytical statements may become slower; it holds for new sessions.",
        caveats=("Or raise jit_above_cost above the cost of these statements.",),
    )


def _statement_list(
    server: ServerState, catalog: Catalog, options: Options
) -> Iterator[Suggestion]:
    setting, seen = server.setting("pg_stat_statements.max"), server.statement_list
    if setting is None or seen is None or seen.evictions is None or seen.stats_reset is None:
        return
    hours = max(hours_between(seen.stats_reset, server.counters.read_at), 1 / 60)
    if seen.evictions < MIN_EVICTIONS or seen.evictions / hours < EVICTIONS_PER_HOUR:
        return
    wanted = min(max(int(2 * setting.number), 5_000), MAX_LISTED)
    if wanted <= setting.number:
        return
    yield suggest_setting(
        options,
        setting,
        str(wanted),
        f"Make room for {wanted:,} statements in pg_stat_statements",
        Finding(
            "statement_evictions",
            f"Its list of {setting.number:,.0f} statements was full {seen.evictions:,} times in "
            f"{span_words(hours)}; each time the rarest twentieth was forgotten.",
            (("times full", f"{seen.evictions:,}"), ("entries", f"{setting.number:,.0f}")),
        ),
        "What is forgotten is missing in every number about statements.",
        verify="SELECT dealloc FROM pg_stat_statements_info stays as it is.",
        caveats=(
            "An application that writes values or lists of varying length into its statements "
            "fills any list: look for statements that differ only there.",
        ),
    )


def _maintenance_work_mem(
    server: ServerState, catalog: Catalog, options: Options
) -> Iterator[Suggestion]:
    setting = server.setting("maintenance_work_mem")
    largest = _largest_btree(catalog)
    if setting is None or largest is None:
        return
    memory, words = assumed_memory(server)
    wanted = size_literal(min(MAINTENANCE_SHARE * memory, GB))
    if largest.index_bytes < SORTED_TIMES * setting.size_bytes:
        return
    if literal_bytes(wanted) < 2 * setting.size_bytes:
        return
    yield suggest_setting(
        options,
        setting,
        wanted,
        f"Give maintenance {wanted} of memory",
        Finding(
            "maintenance_work_mem",
            f"{largest.name} takes {size_words(largest.index_bytes)}, maintenance_work_mem is "
            f"{setting_words(setting)}: building it again sorts through the disk.",
            (("largest index", size_words(largest.index_bytes)),),
        ),
        "CREATE INDEX and REINDEX sort in it, and before PostgreSQL 17 VACUUM reads all of a "
        f"table's indexes once for as many dead rows as fit into it. A twentieth of the memory, "
        f"1 GB at most; {words}.",
        verify="trace_sort, or pg_stat_database.temp_bytes before and after a REINDEX.",
        caveats=(
            f"Up to {server.number('autovacuum_max_workers', 3):.0f} autovacuum workers may take "
            "it at a time, unless autovacuum_work_mem is set.",
        ),
    )


def _largest_btree(catalog: Catalog) -> IndexInfo | None:
    trees = (i for t in catalog.tables for i in t.indexes if i.method == "btree" and i.is_valid)
    return max(trees, key=lambda i: i.index_bytes, default=None)


def _switched_off(server: ServerState, catalog: Catalog, options: Options) -> Iterator[Suggestion]:
    for name, effect in (
        ("autovacuum", "Dead rows are never removed, statistics never renewed, and in the end the "
         "server stops for want of transaction ids."),
        ("track_counts", "Without counters autovacuum does not know which tables changed."),
    ):  # fmt: skip
        setting = server.setting(name)
        if setting is None or setting.is_on:
            continue
        dead = sum(t.dead_rows for t in catalog.tables)
        yield suggest_setting(
            options,
            setting,
            "on",
            f"Turn {name} on",
            Finding(
                "autovacuum_off",
                f"{name} is off; {dead:,} dead rows lie in this database's tables.",
                (("dead rows", f"{dead:,}"),),
            ),
            effect,
            verify="SELECT last_autovacuum, last_autoanalyze FROM pg_stat_user_tables.",
        )


_RULES: tuple[_Rule, ...] = (
    _switched_off,
    _shared_buffers,
    _effective_cache_size,
    _random_page_cost,
    _effective_io_concurrency,
    _max_wal_size,
    _completion_target,
    _maintenance_work_mem,
    _jit,
    _statement_list,
    _track_io_timing,
)
