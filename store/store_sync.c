/* Each call hands a waiter on this thread's stack to the asynchronous form and sleeps until the
 * callback, which comes exactly once, has filled it. */
#include "store/store_sync.h"

#include <pthread.h>
#include <string.h>

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
    enum err err;
};

static void waiter_init(struct waiter *waiter)
{
    *waiter = (struct waiter){.err = ERR_OK};
    pthread_mutex_init(&waiter->mutex, NULL);
    pthread_cond_init(&waiter->cond, NULL);
}

/* The signal is given under the mutex: once it is free the waiter may be gone from its stack. */
static void waiter_finish(struct waiter *waiter, enum err err)
{
    pthread_mutex_lock(&waiter->mutex);
    waiter->err = err;
    waiter->done = true;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->mutex);
}

static enum err waiter_wait(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->mutex);
    while (!waiter->done) {
        pthread_cond_wait(&waiter->cond, &waiter->mutex);
    }
    pthread_mutex_unlock(&waiter->mutex);
    pthread_cond_destroy(&waiter->cond);
    pthread_mutex_destroy(&waiter->mutex);
    return waiter->err;
}

static void on_done(void *arg, enum err err)
{
    waiter_finish(arg, err);
}

struct get {
    struct waiter waiter;
    bool found;
    struct store_entry entry;
};

static void on_get(void *arg, enum err err, const struct store_entry *entry)
{
    struct get *get = arg;
    if (err == ERR_OK && entry) {
        get->found = true;
        get->entry = *entry;
    }
    waiter_finish(&get->waiter, err);
}

enum err store_get_sync(struct store *store, struct bytes key, bool *ret_found,
                        struct store_entry *ret_entry)
{
    struct get get = {.found = false};
    waiter_init(&get.waiter);
    store_get(store, key, on_get, &get);
    enum err err = waiter_wait(&get.waiter);
    if (err != ERR_OK) {
        return err;
    }
    if (get.found) {
        *ret_entry = get.entry;
    }
    *ret_found = get.found;
    return ERR_OK;
}

struct ready {
    struct waiter waiter;
    struct store_write *write;
};

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    struct ready *ready = arg;
    ready->write = write;
    waiter_finish(&ready->waiter, err);
}

enum err store_write_new_sync(struct store *store, const struct store_write_size *size,
                              struct store_write **ret_write)
{
    struct ready ready = {.write = NULL};
    waiter_init(&ready.waiter);
    store_write_new(store, size, on_ready, &ready);
    enum err err = waiter_wait(&ready.waiter);
    if (err == ERR_OK) {
        *ret_write = ready.write;
    }
    return err;
}

struct commit {
    struct waiter waiter;
    bool condition_failed;
    struct store_op_result last; /* of the last operation */
};

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    struct commit *commit = arg;
    if (err == ERR_OK) {
        commit->condition_failed = written->condition_failed;
        if (!written->condition_failed && written->n_ops > 0) {
            commit->last = written->ops[written->n_ops - 1];
        }
    }
    waiter_finish(&commit->waiter, err);
}

static enum err commit_and_wait(struct store_write *write, struct commit *commit)
{
    *commit = (struct commit){.condition_failed = false};
    waiter_init(&commit->waiter);
    store_write_commit(write, on_written, commit);
    return waiter_wait(&commit->waiter);
}

enum err store_write_commit_sync(struct store_write *write, bool *ret_condition_failed)
{
    struct commit commit;
    enum err err = commit_and_wait(write, &commit);
    if (err == ERR_OK && ret_condition_failed) {
        *ret_condition_failed = commit.condition_failed;
    }
    return err;
}

enum err store_put_sync(struct store *store, const struct store_put *put, struct bytes value,
                        struct store_version *ret_version)
{
    struct store_write_size size = {
        .ops = 1,
        .bytes = put->key.size + put->content_type.size + put->content_encoding.size +
                 put->cache_control.size + value.size,
    };
    struct store_write *write;
    enum err err = store_write_new_sync(store, &size, &write);
    if (err != ERR_OK) {
        return err;
    }
    struct store_put sized = *put;
    sized.value_bytes = value.size;
    void *into;
    err = store_write_put(write, &sized, &into);
    if (err != ERR_OK) {
        store_write_abort(write);
        return err;
    }
    if (value.size > 0) {
        memcpy(into, value.data, value.size);
    }
    struct commit commit;
    err = commit_and_wait(write, &commit);
    if (err == ERR_OK && ret_version) {
        *ret_version = commit.last.version;
    }
    return err;
}

enum err store_delete_sync(struct store *store, struct bytes key, bool *ret_existed)
{
    struct store_write_size size = {.ops = 1, .bytes = key.size, .deletes_only = true};
    struct store_write *write;
    enum err err = store_write_new_sync(store, &size, &write);
    if (err != ERR_OK) {
        return err;
    }
    err = store_write_delete(write, key);
    if (err != ERR_OK) {
        store_write_abort(write);
        return err;
    }
    struct commit commit;
    err = commit_and_wait(write, &commit);
    if (err == ERR_OK && ret_existed) {
        *ret_existed = commit.last.before.exists;
    }
    return err;
}

enum err store_flush_sync(struct store *store)
{
    struct waiter waiter;
    waiter_init(&waiter);
    store_flush(store, on_done, &waiter);
    return waiter_wait(&waiter);
}

enum err store_compact_sync(struct store *store)
{
    struct waiter waiter;
    waiter_init(&waiter);
    store_compact(store, on_done, &waiter);
    return waiter_wait(&waiter);
}
