#include "cri/streaming/token.h"

#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <uthash.h>

#include "base/clock.h"
#include "cri/streaming/limits.h"

enum { RANDOM_BYTES = 6 };

struct entry {
    char token[TOKEN_SIZE];
    int64_t expires_ns;
    struct errand *errand;
    UT_hash_handle hh;
};

struct tokens {
    pthread_mutex_t lock;
    struct entry *entries; /* [lock] in the order of their making, so of their end too */
};

void
errand_free(struct errand *errand)
{
    if (!errand)
        return;
    free(errand->id);
    strv_free(&errand->command);
    free(errand);
}

struct tokens *
tokens_new(void)
{
    struct tokens *tokens = mem_zalloc(1, sizeof *tokens);
    (void)pthread_mutex_init(&tokens->lock, NULL);
    return tokens;
}

/* With the lock held; the errand. */
static struct errand *
entry_take(struct tokens *tokens, struct entry *entry)
{
    struct errand *errand = entry->errand;
    HASH_DEL(tokens->entries, entry);
    free(entry);
    return errand;
}

static void
drop_expired(struct tokens *tokens, int64_t now)
{
    while (tokens->entries && tokens->entries->expires_ns <= now)
        errand_free(entry_take(tokens, tokens->entries));
}

void
tokens_free(struct tokens *tokens)
{
    if (!tokens)
        return;
    drop_expired(tokens, INT64_MAX);
    (void)pthread_mutex_destroy(&tokens->lock);
    free(tokens);
}

/* base64url of 48 random bits. */
static void
token_make(char token[TOKEN_SIZE])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t bits = 0;
    while (getrandom(&bits, RANDOM_BYTES, 0) != RANDOM_BYTES)
        continue;
    for (int i = 0; i < TOKEN_SIZE - 1; i++, bits >>= 6)
        token[i] = digits[bits & 63];
    token[TOKEN_SIZE - 1] = '\0';
}

static int
add(struct tokens *tokens, struct errand *errand, char token[TOKEN_SIZE], struct error *err)
{
    struct entry *entry;
    int64_t now = clock_monotonic_ns();
    drop_expired(tokens, now);
    if (HASH_COUNT(tokens->entries) >= TOKENS_MAX)
        return error_set(err, ERR_EXHAUSTED, "%d requests for streaming wait for their clients already", TOKENS_MAX);
    do {
        token_make(token);
        HASH_FIND_STR(tokens->entries, token, entry);
    } while (entry);
    entry = mem_zalloc(1, sizeof *entry);
    memcpy(entry->token, token, TOKEN_SIZE);
    entry->expires_ns = now + TOKEN_NS;
    entry->errand = errand;
    HASH_ADD_STR(tokens->entries, token, entry);
    return 0;
}

int
tokens_add(struct tokens *tokens, struct errand *errand, char token[TOKEN_SIZE], struct error *err)
{
    pthread_mutex_lock(&tokens->lock);
    int result = add(tokens, errand, token, err);
    pthread_mutex_unlock(&tokens->lock);
    if (result < 0)
        errand_free(errand);
    return result;
}

struct errand *
tokens_take(struct tokens *tokens, const char *token, enum errand_kind kind)
{
    struct entry *entry;
    struct errand *errand = NULL;
    pthread_mutex_lock(&tokens->lock);
    drop_expired(tokens, clock_monotonic_ns());
    HASH_FIND_STR(tokens->entries, token, entry);
    if (entry)
        errand = entry_take(tokens, entry);
    pthread_mutex_unlock(&tokens->lock);
    if (errand && errand->kind == kind)
        return errand;
    errand_free(errand);
    return NULL;
}
