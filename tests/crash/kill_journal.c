/* kill_journal.c - versions of keys, kept outside the store. */
#include "tests/crash/kill_journal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"

struct version {
    enum journal_effect effect;
    char tag[JOURNAL_TAG_BYTES]; /* empty: not known yet */
};

struct journal_key {
    struct version *versions; /* [0, sent] */
    size_t room;
    uint64_t sent, acked, seen;
    bool under_way;                      /* the version `sent` has no answer yet */
    char unknown_tag[JOURNAL_TAG_BYTES]; /* seen in a 412, and not yet known of any version */
};

struct journal {
    pthread_mutex_t lock; /* of all that follows */
    struct journal_key *keys;
    size_t n_keys;
    uint64_t n_acked, n_seen;
    char violation[512];
};

struct journal *journal_new(size_t n_keys)
{
    struct journal *journal = test_alloc(sizeof *journal);
    pthread_mutex_init(&journal->lock, NULL);
    journal->n_keys = n_keys;
    journal->keys = test_alloc(n_keys * sizeof *journal->keys);
    for (size_t i = 0; i < n_keys; i++) {
        struct journal_key *key = &journal->keys[i];
        key->room = 16;
        key->versions = test_alloc(key->room * sizeof *key->versions);
        key->versions[0].effect = JOURNAL_ABSENT;
    }
    return journal;
}

void journal_free(struct journal *journal)
{
    if (journal == NULL) {
        return;
    }
    for (size_t i = 0; i < journal->n_keys; i++) {
        free(journal->keys[i].versions);
    }
    free(journal->keys);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
}

/* --- Violations --- */

static void note(struct journal *journal, size_t key, const char *what, uint64_t version)
{
    const struct journal_key *k = &journal->keys[key];
    if (journal->violation[0] == '\0') {
        (void)snprintf(journal->violation, sizeof journal->violation,
                       "key %zu: %s (version %" PRIu64 "); acked %" PRIu64 ", seen %" PRIu64
                       ", sent %" PRIu64,
                       key, what, version, k->acked, k->seen, k->sent);
    }
}

void journal_violation(struct journal *journal, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&journal->lock);
    if (journal->violation[0] == '\0') {
        (void)vsnprintf(journal->violation, sizeof journal->violation, format, arguments);
    }
    pthread_mutex_unlock(&journal->lock);
    va_end(arguments);
}

const char *journal_violated(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    const char *violation = journal->violation[0] != '\0' ? journal->violation : NULL;
    pthread_mutex_unlock(&journal->lock);
    return violation;
}

/* --- Keys and values --- */

void journal_path(size_t key, char ret_path[32])
{
    (void)snprintf(ret_path, 32, "/kv/kill/%zu", key);
}

/* Most are small; some fill a memtable by themselves. */
size_t journal_value_size(size_t key, uint64_t version)
{
    uint64_t random = scramble64(scramble64(key) + version);
    uint64_t most = random % 100 < 70 ? 600 : random % 100 < 95 ? 8000 : 200000;
    return PATTERN_VERSION_BYTES + (size_t)((random >> 20) % most);
}

void journal_fill(size_t key, uint64_t version, void *into)
{
    char path[32];
    journal_path(key, path);
    pattern_fill(bytes_of_text(path), version, into, journal_value_size(key, version));
}

/* --- Writes --- */

static uint64_t bound_of(const struct journal_key *key)
{
    return key->acked > key->seen ? key->acked : key->seen;
}

bool journal_present(struct journal *journal, size_t key, char ret_tag[JOURNAL_TAG_BYTES])
{
    pthread_mutex_lock(&journal->lock);
    const struct journal_key *k = &journal->keys[key];
    const struct version *version = &k->versions[k->acked];
    bool present = version->effect == JOURNAL_VALUE;
    memcpy(ret_tag, version->tag, JOURNAL_TAG_BYTES);
    pthread_mutex_unlock(&journal->lock);
    return present;
}

uint64_t journal_send(struct journal *journal, size_t key, enum journal_effect effect)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_key *k = &journal->keys[key];
    uint64_t version = ++k->sent;
    if (version == k->room) {
        k->versions = test_grow(k->versions, k->room * sizeof *k->versions,
                                2 * k->room * sizeof *k->versions);
        k->room *= 2;
    }
    k->versions[version].effect = effect;
    k->under_way = true;
    pthread_mutex_unlock(&journal->lock);
    return version;
}

/* Learns the tag of a version, or compares. */
static void learn_tag(struct journal *journal, size_t key, uint64_t version, const char *tag)
{
    struct journal_key *k = &journal->keys[key];
    char *known = k->versions[version].tag;
    if (tag == NULL || strlen(tag) >= JOURNAL_TAG_BYTES) {
        note(journal, key, "no ETag", version);
        return;
    }
    if (known[0] != '\0' && strcmp(known, tag) != 0) {
        note(journal, key, "another ETag than before", version);
    }
    for (uint64_t other = version > 8 ? version - 8 : 0; other < version; other++) {
        if (strcmp(k->versions[other].tag, tag) == 0) {
            note(journal, key, "the ETag of an earlier version", version);
        }
    }
    memcpy(known, tag, strlen(tag) + 1);
    if (strcmp(k->unknown_tag, tag) == 0) {
        k->unknown_tag[0] = '\0';
    }
}

void journal_ack(struct journal *journal, size_t key, uint64_t version, const char *tag)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_key *k = &journal->keys[key];
    k->acked = version;
    k->under_way = false;
    journal->n_acked++;
    if (k->versions[version].effect == JOURNAL_VALUE) {
        learn_tag(journal, key, version, tag);
    }
    pthread_mutex_unlock(&journal->lock);
}

void journal_refuse(struct journal *journal, size_t key, uint64_t version)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_key *k = &journal->keys[key];
    k->under_way = false;
    if (k->seen == version) {
        note(journal, key, "refused, but it was seen", version);
    }
    k->versions[version].effect = JOURNAL_NOTHING;
    pthread_mutex_unlock(&journal->lock);
}

uint64_t journal_acked(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    uint64_t n = journal->n_acked;
    pthread_mutex_unlock(&journal->lock);
    return n;
}

/* --- Reads --- */

uint64_t journal_bound(struct journal *journal, size_t key)
{
    pthread_mutex_lock(&journal->lock);
    uint64_t bound = bound_of(&journal->keys[key]);
    pthread_mutex_unlock(&journal->lock);
    return bound;
}

/* Which version an answer shows; false, with a note, if none that may be there. Of "not there" the
 * oldest version that it can be. */
static bool identify(struct journal *journal, size_t key, uint64_t bound, const struct reply *reply,
                     uint64_t *ret_version)
{
    const struct journal_key *k = &journal->keys[key];
    uint64_t version = bound;
    if (reply->status == 404) {
        while (version <= k->sent && k->versions[version].effect != JOURNAL_ABSENT) {
            version++;
        }
        if (version > k->sent) {
            note(journal, key, "not there, though no delete was sent", bound);
            return false;
        }
        *ret_version = version;
        return true;
    }
    char path[32];
    journal_path(key, path);
    if (reply->status != 200 ||
        !pattern_version(bytes_of_text(path), bytes_of(reply->body, reply->size), &version)) {
        note(journal, key, reply->status == 200 ? "wrong bytes" : "neither 200 nor 404",
             reply->status);
        return false;
    }
    if (version < bound || version > k->sent) {
        note(journal, key, version < bound ? "too old" : "never sent", version);
        return false;
    }
    if (k->versions[version].effect != JOURNAL_VALUE ||
        reply->size != journal_value_size(key, version)) {
        note(journal, key, "refused, lost, or cut off, and yet seen", version);
        return false;
    }
    *ret_version = version;
    return true;
}

void journal_read(struct journal *journal, size_t key, uint64_t bound, const struct reply *reply)
{
    const char *tag = reply_field(reply, "ETag");
    pthread_mutex_lock(&journal->lock);
    struct journal_key *k = &journal->keys[key];
    uint64_t version;
    if (identify(journal, key, bound, reply, &version)) {
        k->seen = version > k->seen ? version : k->seen;
        journal->n_seen++;
        if (reply->status == 200) {
            learn_tag(journal, key, version, tag);
        }
    }
    pthread_mutex_unlock(&journal->lock);
}

void journal_refusal_seen(struct journal *journal, size_t key, uint64_t bound,
                          const struct reply *reply)
{
    const char *tag = reply_field(reply, "ETag");
    pthread_mutex_lock(&journal->lock);
    struct journal_key *k = &journal->keys[key];
    if (tag == NULL) {
        struct reply absent = {.status = 404};
        uint64_t version;
        if (identify(journal, key, bound, &absent, &version)) {
            k->seen = version > k->seen ? version : k->seen;
            journal->n_seen++;
        }
    } else {
        uint64_t version = bound;
        while (version <= k->sent && strcmp(k->versions[version].tag, tag) != 0) {
            version++;
        }
        if (version <= k->sent) {
            k->seen = version > k->seen ? version : k->seen;
            journal->n_seen++;
        } else {
            (void)snprintf(k->unknown_tag, sizeof k->unknown_tag, "%s", tag);
        }
    }
    pthread_mutex_unlock(&journal->lock);
}

/* --- Crashes --- */

void journal_crash(struct journal *journal, uint64_t *ret_unanswered, uint64_t *ret_seen)
{
    pthread_mutex_lock(&journal->lock);
    *ret_unanswered = 0;
    for (size_t i = 0; i < journal->n_keys; i++) {
        *ret_unanswered += journal->keys[i].under_way;
    }
    *ret_seen = journal->n_seen;
    journal->n_seen = 0;
    pthread_mutex_unlock(&journal->lock);
}

void journal_recover(struct journal *journal, size_t key, const struct reply *reply)
{
    const char *tag = reply_field(reply, "ETag");
    pthread_mutex_lock(&journal->lock);
    struct journal_key *k = &journal->keys[key];
    uint64_t version;
    if (identify(journal, key, bound_of(k), reply, &version)) {
        if (reply->status == 200) {
            learn_tag(journal, key, version, tag);
        }
        if (k->unknown_tag[0] != '\0') {
            note(journal, key, "an ETag was seen in a 412, and is lost", version);
        }
        for (uint64_t lost = version + 1; lost <= k->sent; lost++) {
            k->versions[lost].effect = JOURNAL_NOTHING;
        }
        k->acked = k->seen = version;
        k->under_way = false;
    }
    pthread_mutex_unlock(&journal->lock);
}

void journal_unchanged(struct journal *journal, size_t key, const char *tag, size_t size)
{
    pthread_mutex_lock(&journal->lock);
    const struct journal_key *k = &journal->keys[key];
    const struct version *version = &k->versions[k->acked];
    bool present = version->effect == JOURNAL_VALUE;
    if (present != (size != SIZE_MAX)) {
        note(journal, key, present ? "gone" : "there again", k->acked);
    } else if (present && (tag == NULL || strcmp(tag, version->tag) != 0)) {
        note(journal, key, "another ETag than after recovery", k->acked);
    } else if (present && size != journal_value_size(key, k->acked)) {
        note(journal, key, "another size than after recovery", k->acked);
    }
    pthread_mutex_unlock(&journal->lock);
}
