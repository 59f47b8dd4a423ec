-- A join with a source that has no primary key, through a view.
{{ config(schedule='1s') }}

select
    f.origin,
    w.conditions,
    count(*) as flights,
    round(avg(f.dep_delay), 2) as avg_dep_delay,
    count(*) filter (where f.dep_delay >= 60) as an_hour_late
from {{ source('nyc', 'flights') }} as f
inner join {{ ref('weather_hours') }} as w on w.origin = f.origin and w.time_hour = f.time_hour
where f.dep_time is not null
group by f.origin, w.conditions
