{# Step 2 makes it a table, step 3 an incremental model, step 4 a stream table again. -#}
{{ config(
    materialized={1: 'stream_table', 2: 'table', 3: 'incremental'}.get(var('step'), 'stream_table'),
    alias='order_statuses',
    schema='elsewhere',
    tags=['lookup'],
    schedule='1h',
) }}
select distinct status from {{ ref('stg_orders') }}
