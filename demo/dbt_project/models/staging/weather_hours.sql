-- An ordinary view; stream tables see through it.
{{ config(materialized='view') }}

select
    origin,
    time_hour,
    case
        when visib < 2 or wind_speed > 30 then 'bad'
        when visib < 8 or precip > 0 then 'poor'
        else 'good'
    end as conditions
from {{ source('nyc', 'weather') }}
