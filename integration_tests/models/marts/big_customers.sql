{# A stream table on a stream table; step 2 changes its configuration only. -#}
{{ config(
    schedule='calculated' if var('step') < 2 else '30m',
    refresh_mode='DIFFERENTIAL',
) }}
select customer_id, total from {{ ref('order_totals') }} where total >= 20
