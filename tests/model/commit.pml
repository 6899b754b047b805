/*
 * commit.pml - the commit pipeline as a model that spin checks exhaustively (./check).
 *
 * Two writers, one with two writes and one with one, which may be a batch of both keys; a reader;
 * one rotation with the flush that follows it; one failed sync. In every order in which their steps
 * can happen. A version is known by its number alone. Whether a write makes records or none (a
 * condition that fails, a delete of what isn't there) is left open, so that every condition is
 * covered. The first writer begins with the first key: the keys are alike.
 *
 *   here                          in store/lsm/
 *   claim_generation, _next       engine.h: store.claim, one word; commit.c: claim()
 *   visible, view, stripe, ring   engine.h: .visible_seq, .view, .stripes, .ring
 *   log_next, boundary            engine.h: .log_next_seq, .boundary_seq
 *   sealed_complete, sealed_last  log.c: finish_rotation(); engine.h: .sealed_last_seq
 *   view 0, 1, 2                  view.h: {active 0} → {active 1, sealed 0} → {active 1, table}
 *   COVERED()                     view.h: .covered_seq
 *   record[]                      commit.c: insert(); memtable.c: memtable_insert()
 *   find_in_memtables(), find()   view.c: view_find_in_memtables(), view_find_in_tables()
 *   drain()                       commit.c: commit_drain_waiters()
 *   complete()                    commit.c: commit_complete()
 *   writer LOOK                   commit.c: look_into_tables()
 *   writer ATTEMPT, decide()      commit.c: attempt(), decide()
 *   writer, from claim() on       commit.c: claim(), insert(), unlock_stripes(), hand_over()
 *   writer NOTHING_TO_WRITE       commit.c: complete_when_durable()
 *   writer sleeper_wake()         sleeper.c
 *   log STEP                      log.c: engine_log_step(), collect_run(), log_run(), write_frame()
 *   log FAILED                    log.c: write_frame(); engine.c: engine_fail()
 *   log CROSSED, ROTATE           log.c: finish_rotation(), rotate(), seal_active()
 *   log SLEEP to AWAKE            sleeper.c: sleeper_wait(), with log.c: slot_is_ready()
 *   flush                         flush.c: oldest_complete(), engine_flush_step(); edit.c: apply()
 *   reader                        read.c: look_up(); engine.c: engine_snapshot()
 *
 * What is one step here and several there commutes with what others do in between: a mutex is taken
 * with the first step under it and released with the last; a search finds the same whenever it is
 * made, for it looks at visible numbers, or at a key under its stripe.
 *
 * Spin's memory is sequentially consistent. Two stores of the code aren't, and a fence follows
 * them: of a slot, and of `asleep`. What the fences are for is shown by leaving them out
 * (wake_without_fence, sleep_without_fence). The other atomics of these steps are sequentially
 * consistent in the code too, ordered by release and acquire alone where nothing else is needed, or
 * under a mutex.
 *
 * Left out: admission (it bounds what is in flight; here each writer has one write), timeouts (a
 * sleep that nobody ends is an error here), empty frames, closing.
 *
 * Each CHANGE is a mistake that one could make. Spin must find it.
 */
#define WRITERS 2
#define KEYS    2
#define NUMBERS 4 /* the greatest that can be claimed */
#define RING    4 /* more than may be in flight: a run ends at an empty slot */

/* Results of a write. */
#define PENDING 0
#define OK      1
#define UNKNOWN 2
#define REFUSED 3

#ifndef CHANGE
#define CHANGE none
#endif
#define none                      0
#define acknowledge_before_sync   1
#define publish_before_sync       2
#define sync_again                3
#define claim_without_generation  4
#define frame_over_boundary       5
#define frame_splits_batch        6
#define slot_before_link          7
#define stripe_not_taken          8
#define decide_on_visible         9
#define tables_not_looked_again   10
#define no_waiting_rule           11
#define waiter_without_look_again 12
#define waiters_not_drained       13
#define log_dies_of_failure       14
#define sleep_without_look_again  15
#define sleep_without_fence       16
#define wake_without_fence        17
#define flush_before_complete     18
#define number_before_view        19
#define snapshot_without_check    20

/* --- What the code has ------------------------------------------------------------------------ */

byte claim_generation, claim_next = 1; /* one word: read and changed in one step */
byte visible;
byte view;
bool stripe[KEYS];
byte ring[RING]; /* the number whose operation is ready; 0: empty */
bool poisoned, read_only;
bool sealed_complete;
byte sealed_last, table[KEYS];

typedef Record { /* memory of one operation */
    bool linked, last;
    byte key, by, memtable;
};
Record record[NUMBERS + 1];

bool waiters_mutex;
byte waiting[WRITERS]; /* the number that a waiter waits for; 0: it isn't one */
byte n_waiters;
byte answer[WRITERS];

bool asleep, sleeper_mutex, in_wait;

#if CHANGE == wake_without_fence || CHANGE == sleep_without_fence
typedef Buffer { /* stores under way: the slots of the numbers first, first - 1, … (n of them) */
    byte first, n;
};
Buffer buffered[WRITERS];
bool announced;
#endif

/* --- What only the properties know ------------------------------------------------------------ */

byte logged, durable;    /* greatest number written, and greatest whose sync returned success */
byte segment;            /* that frames are written to */
byte writers_done;

/* Greatest number of a key among those claimed, up to `upto`. */
inline newest(key_, upto, ret)
{
    ret = 0;
    i = 1;
    do
    :: i < claim_next && i <= upto ->
        if
        :: record[i].key == key_ -> ret = i
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* --- Shared parts ----------------------------------------------------------------------------- */

#define GENERATION(v) ((v) != 0)
#define COVERED(v)    (((v) == 2) * sealed_last)
#define HOLDS(v, m)   ((v) == 1 || ((v) == 2) == (m))

inline find_in_memtables(v, key_, upto, ret)
{
    ret = 0;
    i = 1;
    do
    :: i <= NUMBERS ->
        if
        :: i <= upto && record[i].linked && record[i].key == key_ && HOLDS(v, record[i].memtable) ->
            ret = i
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

inline find(v, key_, upto, ret)
{
    find_in_memtables(v, key_, upto, ret);
    ret = (ret == 0 && v == 2 -> table[key_] : ret)
}

inline complete(w, result)
{
    assert(answer[w] == PENDING);
    answer[w] = result
}

inline drain(v)
{
    atomic { !waiters_mutex -> waiters_mutex = true; v = visible };
    d_step {
        i = 0;
        do
        :: i < WRITERS ->
            if
            :: waiting[i] != 0 && (waiting[i] <= v || poisoned) ->
                if
                :: waiting[i] <= v ->
                    /* A condition is answered only once what it rests on is durable. */
                    assert(waiting[i] <= durable);
                    complete(i, OK)
                :: else -> complete(i, UNKNOWN)
                fi;
                waiting[i] = 0;
                n_waiters--
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0;
        v = 0;
        waiters_mutex = false
    }
}

/* The two stores that a fence follows. Without the fence they are seen by the others at any later
 * time (in their order): they pass through a buffer. With it, they are when the thread goes on. */
inline store_slot(number)
{
#if CHANGE == wake_without_fence
    d_step {
        buffered[me].first = (buffered[me].n == 0 -> number : buffered[me].first);
        buffered[me].n++
    }
#else
    ring[(number) % RING] = number
#endif
}

inline announce()
{
#if CHANGE == sleep_without_fence
    announced = true
#else
    asleep = true
#endif
}

/* Unlocking the mutex, too, waits for the store. */
inline settle_announcement()
{
#if CHANGE == sleep_without_fence
    !announced
#else
    skip
#endif
}

/* --- Writers ---------------------------------------------------------------------------------- */

#define HAS(k) (keys == 3 || keys == k + 1)

inline unlock_stripes()
{
    stripe[0] = stripe[0] && keys == 2;
    stripe[1] = stripe[1] && keys == 1
}

/* The newest claimed version of each of the keys. */
inline decide()
{
    met = 0;
    k = 0;
    do
    :: k < KEYS ->
        if
        :: HAS(k) ->
#if CHANGE == decide_on_visible
            find_in_memtables(my_view, k, visible, first);
#else
            find_in_memtables(my_view, k, NUMBERS, first);
#endif
            first = (first == 0 -> in_tables[k] : first);
            newest(k, NUMBERS, n);
            assert(first == n);
            met = (first > met -> first : met)
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0;
    first = 0;
    n = 0
}

/* Among all claimed versions of the keys. */
inline newest_of_all(ret)
{
    d_step {
        ret = 0;
        i = 1;
        do
        :: i < claim_next ->
            ret = (HAS(record[i].key) -> i : ret);
            i++
        :: else -> break
        od;
        i = 0
    }
}

proctype writer(byte me; byte writes)
{
    byte keys, n, i, k;
    byte looked, in_tables[KEYS]; /* covered_seq of the view that was looked into, and what it had */
    byte my_view, met, first, seen;

NEXT:
    atomic {
        answer[me] != PENDING || keys == 0 ->
        answer[me] = PENDING;
        met = 0;
        first = 0;
        n = 0;
        my_view = 0;
        if
        :: writes == 0 -> goto DONE
        :: else
        fi;
        writes--;
        if
        :: keys = 1
        :: me == 1 || writes == 0 -> keys = 2
        :: me == 1 -> keys = 3 /* both */
        fi;
LOOK:
        looked = COVERED(view);
        in_tables[0] = (view == 2 -> table[0] : 0);
        in_tables[1] = (view == 2 -> table[1] : 0)
    };
#if CHANGE != stripe_not_taken
    if
    :: HAS(0) -> atomic { !stripe[0] -> stripe[0] = true }
    :: else
    fi;
#endif
    atomic {
#if CHANGE != stripe_not_taken
        if
        :: HAS(1) -> !stripe[1] -> stripe[1] = true
        :: else
        fi;
#else
        skip;
#endif
ATTEMPT:
        my_view = view;
#if CHANGE != tables_not_looked_again
        if
        :: COVERED(my_view) != looked -> unlock_stripes(); goto LOOK
        :: else
        fi;
#endif
        d_step { decide() };
        if
        :: unlock_stripes(); /* a condition fails, or there is nothing to delete */
            goto NOTHING_TO_WRITE
        :: read_only -> unlock_stripes(); complete(me, REFUSED); goto NEXT
        :: !read_only
        fi;
        looked = 0;
        in_tables[0] = 0;
        in_tables[1] = 0
    };
    /* claim() */
    atomic {
        n = 1 + (keys == 3);
#if CHANGE != claim_without_generation
        if
        :: claim_generation != GENERATION(my_view) ->
            n = 0;
            view != my_view; /* in the code: sched_yield() and again, until the new view is there */
            goto ATTEMPT
        :: else
        fi;
#endif
        /* What it was decided on holds at the moment at which it takes effect. */
        newest_of_all(first);
        assert(first == met);
        met = 0;
        first = claim_next;
        claim_next = claim_next + n;
        do
        :: k < n ->
            record[first + k].key = (keys == 3 -> k : keys - 1);
            record[first + k].by = me;
            record[first + k].memtable = GENERATION(my_view);
            record[first + k].last = (k == n - 1);
            k++
        :: else -> break
        od;
        k = 0;
        my_view = 0
    };
#if CHANGE == slot_before_link
    store_slot(first);
#endif
    /* insert() */
    if
    :: n == 2 -> record[first].linked = true
    :: else
    fi;
    d_step { record[first + n - 1].linked = true; unlock_stripes() };
    /* hand_over() */
#if CHANGE != slot_before_link
    if
    :: n == 2 -> store_slot(first + 1)
    :: else
    fi;
    store_slot(first);
#endif
    /* sleeper_wake() */
    if
    :: asleep -> d_step { !sleeper_mutex -> asleep = false; in_wait = false }
    :: else
    fi;
    goto NEXT;

NOTHING_TO_WRITE: /* complete_when_durable() */
    atomic {
        looked = 0;
        in_tables[0] = 0;
        in_tables[1] = 0;
        my_view = 0;
        if
#if CHANGE == no_waiting_rule
        :: true ->
#else
        :: met <= visible ->
#endif
            assert(met <= durable);
            complete(me, OK);
            goto NEXT
#if CHANGE != no_waiting_rule
        :: else
#endif
        fi
    };
    d_step { !waiters_mutex -> waiting[me] = met; n_waiters++ };
#if CHANGE != waiter_without_look_again
    if
    :: met <= visible || poisoned -> drain(seen)
    :: else
    fi;
#endif
    goto NEXT;
DONE:
    atomic { keys = 0; writers_done++ }
}

/* --- The log thread --------------------------------------------------------------------------- */

inline end_run(result)
{
    do
    :: n > 0 ->
        ring[log_next % RING] = 0;
        if
        :: record[log_next].last -> complete(record[log_next].by, result)
        :: else
        fi;
        log_next++;
        n--
    :: else -> break
    od;
    n = 0
}

inline publish()
{
    visible = logged
}

proctype log()
{
    byte log_next = 1, boundary, n, i, seen;
    bool more, failed;

STEP:
    /* Ready slots, up to the boundary, or fewer; never a part of a batch. */
    atomic {
        more = false;
        i = log_next;
        do
#if CHANGE == frame_over_boundary
        :: ring[i % RING] != 0 ->
#else
        :: ring[i % RING] != 0 && (i != boundary || boundary == 0) ->
#endif
            assert(ring[i % RING] == i);
#if CHANGE == frame_splits_batch
            n = i + 1 - log_next;
#else
            n = (record[i].last -> i + 1 - log_next : n);
#endif
            i++
        :: n > 0 -> break
        :: else -> break
        od;
        i = 0;
        if
        :: n == 0 -> goto CROSSED
        :: n != 0 && poisoned -> more = true; end_run(UNKNOWN); goto COMPLETED
        :: else -> more = true
        fi;
        /* Written: in order, without gaps, into the segment of the memtable that has the records,
         * and no batch goes on in the next frame: each is durable as a whole or not at all. */
        assert(log_next == logged + 1);
        do
        :: i < n -> assert(record[log_next + i].memtable == segment); i++
        :: else -> break
        od;
        assert(record[log_next + n - 1].last);
        i = 0;
        logged = log_next + n - 1;
#if CHANGE == acknowledge_before_sync
        assert(logged <= durable) /* which one that is acknowledged here is not */
#endif
    };
#if CHANGE == publish_before_sync
    publish();
#endif
    /* The sync. */
    if
    :: !failed -> durable = logged
    :: d_step { !failed -> failed = true };
#if CHANGE != sync_again /* which says yes, and means nothing */
        poisoned = true;
        goto FAILED
#endif
    fi;
#if CHANGE != publish_before_sync
    publish();
#endif
    /* Acknowledged is durable and visible, and nothing is acknowledged once the log has failed. */
    d_step {
        assert(logged <= durable && logged <= visible && !poisoned);
        end_run(OK)
    };
    goto COMPLETED;

FAILED:
    atomic {
        read_only = true;
#if CHANGE == log_dies_of_failure
        goto DEAD;
#endif
        end_run(UNKNOWN)
    };

COMPLETED:
#if CHANGE != waiters_not_drained
    if
    :: n_waiters > 0 -> drain(seen)
    :: else
    fi;
#endif

CROSSED:
    atomic {
        if
        :: boundary != 0 && log_next >= boundary ->
            boundary = 0;
            more = true;
            if
            :: !poisoned -> sealed_complete = true; segment = 1
            :: else
            fi
        :: else
        fi;
        /* Is the memtable full? Once it may be. */
        if
        :: claim_generation == 0 && !read_only -> goto ROTATE
        :: more -> goto STEP
        :: !more -> goto SLEEP
        fi
    };

ROTATE:
    atomic { boundary = claim_next; sealed_last = boundary - 1; claim_generation = 1 };
    atomic { assert(visible <= sealed_last); view = 1 };
    goto STEP;

SLEEP: /* sleeper_wait() */
    atomic { !sleeper_mutex -> sleeper_mutex = true; announce() };
    atomic {
#if CHANGE != sleep_without_look_again
        if
        :: ring[log_next % RING] != 0 -> goto AWAKE
        :: else
        fi;
#endif
        settle_announcement();
        in_wait = true;
        sleeper_mutex = false
    };
end:
    atomic {
        !in_wait && !sleeper_mutex -> sleeper_mutex = true;
AWAKE:
        settle_announcement();
        asleep = false;
        sleeper_mutex = false;
        goto STEP
    };
DEAD:
    skip
}

/* --- Flush ------------------------------------------------------------------------------------ */

/* The sealed memtable becomes a table, which has the newest version of each key only. */
proctype flush()
{
    byte i;
end:
    d_step {
#if CHANGE == flush_before_complete
        view == 1 ->
#else
        sealed_complete ->
#endif
        i = 1;
        do
        :: i <= sealed_last ->
            if
            :: record[i].linked -> table[record[i].key] = i
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0;
        view = 2
    }
}

/* --- The reader ------------------------------------------------------------------------------- */

/* Reads any number of times, until it is done. store_get() ends once it has the number; engine_snapshot() looks at the view once more. */
proctype reader()
{
    byte my_view, number, end_, found, truth, i, k;

BEGIN:
#if CHANGE == number_before_view
    if
    :: goto DONE
    :: number = visible
    fi;
    my_view = view;
#else
    if
    :: goto DONE
    :: my_view = view
    fi;
AGAIN:
    atomic {
        number = visible;
        /* What the key had when the number became visible; or, if the view ended before that, at
         * its end, which came after this read had begun: see ROTATE. */
        end_ = number;
        if
        :: my_view == 0 && view != 0 && sealed_last < number -> end_ = sealed_last
        :: else
        fi;
        d_step {
            do
            :: k < KEYS ->
                find(my_view, k, number, found);
                assert(found <= durable);
                newest(k, end_, truth);
                assert(found == truth);
                k++
            :: else -> break
            od;
            k = 0;
            end_ = 0;
            found = 0;
            truth = 0
        };
#if CHANGE != snapshot_without_check
        if
        :: view != my_view -> number = 0; my_view = view; goto AGAIN
        :: else
        fi;
#endif
    };
#endif
    atomic {
        /* Of every key the newest version up to the number: nothing is lost over a rotation,
         * nothing above the number shows, and so a batch shows as a whole or not at all. */
        d_step {
            assert(number <= durable);
            do
            :: k < KEYS ->
                find(my_view, k, number, found);
                newest(k, number, truth);
                assert(found == truth);
                k++
            :: else -> break
            od;
            my_view = 0;
            number = 0;
            found = 0;
            truth = 0;
            k = 0
        };
        goto BEGIN
    };
DONE:
    skip
}

#if CHANGE == wake_without_fence || CHANGE == sleep_without_fence
inline arrive(w)
{
    ring[buffered[w].first % RING] = buffered[w].first;
    buffered[w].first--;
    buffered[w].n--
}

active proctype memory()
{
end:
    do
    :: d_step { buffered[0].n > 0 -> arrive(0) }
    :: d_step { buffered[1].n > 0 -> arrive(1) }
    :: d_step { announced -> asleep = true; announced = false }
    od
}
#endif

init
{
    atomic {
        run log();
        run flush();
        run reader();
        run writer(0, 2);
        run writer(1, 1)
    };
    /* Nothing moves any more: every write has ended (one that hasn't is an invalid end state),
     * every slot is empty, and without a failure everything claimed is durable. */
    timeout ->
    assert(writers_done == WRITERS);
    assert(ring[0] + ring[1] + ring[2] + ring[3] == 0 && n_waiters == 0);
    assert(poisoned || durable == claim_next - 1)
}
