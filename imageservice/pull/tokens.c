#include "imageservice/pull/tokens.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/str.h"
#include "imageservice/pull/limits.h"

struct token {
    char *key, *value;
    int64_t until_ns;
};

struct tokens {
    pthread_mutex_t lock; /* guards what follows */
    struct token items[LIMIT_TOKENS];
    unsigned next; /* the oldest, once all are in use */
};

struct tokens *
tokens_new(void)
{
    struct tokens *tokens = mem_zalloc(1, sizeof *tokens);
    (void)pthread_mutex_init(&tokens->lock, NULL);
    return tokens;
}

static void
drop(struct token *token)
{
    free(token->key);
    str_wipe_free(token->value);
    *token = (struct token){0};
}

void
tokens_free(struct tokens *tokens)
{
    for (size_t i = 0; i < LIMIT_TOKENS; i++)
        drop(&tokens->items[i]);
    (void)pthread_mutex_destroy(&tokens->lock);
    free(tokens);
}

char *
tokens_find(struct tokens *tokens, const char *key, const char *refused)
{
    char *value = NULL;
    (void)pthread_mutex_lock(&tokens->lock);
    for (size_t i = 0; i < LIMIT_TOKENS && !value; i++) {
        struct token *token = &tokens->items[i];
        if (!str_eq(token->key, key))
            continue;
        if (token->until_ns <= clock_monotonic_ns() || str_eq(token->value, refused))
            drop(token);
        else
            value = str_dup(token->value);
    }
    (void)pthread_mutex_unlock(&tokens->lock);
    return value;
}

void
tokens_keep(struct tokens *tokens, const char *key, const char *value, int64_t seconds)
{
    int64_t lifetime = seconds < LIMIT_TOKEN_SECONDS_MAX ? seconds : LIMIT_TOKEN_SECONDS_MAX;
    (void)pthread_mutex_lock(&tokens->lock);
    struct token *token = &tokens->items[tokens->next++ % LIMIT_TOKENS];
    drop(token);
    *token = (struct token){str_dup(key), str_dup(value), clock_monotonic_ns() + lifetime * NS_PER_SECOND};
    (void)pthread_mutex_unlock(&tokens->lock);
}
